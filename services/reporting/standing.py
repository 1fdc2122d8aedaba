"""What readers must know of a month: not closed yet, closed over objections, restated; and what was corrected.

An issue corrects the month before it, and older months that were restated since the month before was closed: what the
issue in between has corrected already is not said twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from services.reporting.bulletin import Erratum, shown
from services.reporting.composing import Standing
from services.statistics.adjustments import changes_of
from services.statistics.figure import Figure, Month, figure_of
from services.statistics.frozen import Decision
from services.statistics.reading import FigureReader

MONTHS_BACK = 24
FIRST = 1
"""The revision by which a month was closed: what its own issue printed."""
OPEN = "本期数字按已收到的事件统计，本月尚未关账，数字可能变动。"
PROVISIONAL = "本期数字为初步数，本月尚未关账，数字可能变动。"


def standing(reader: FigureReader, month: Month, metric_ids: Sequence[str]) -> Standing:
    """Return what is known of a month as a whole."""
    offsets = reader.positions().values()
    source = (
        f"由本月 {reader.events(month):,} 个事件统计，按发生时间（上海）归月；"
        f"截至 {len(offsets)} 个分区的第 {sum(offsets):,} 条记录。"
    )
    remarks = [*_remarks(reader, month), *_lacking(reader, month)]
    return Standing(remarks, list(_errata(reader, month, metric_ids)), source)


def _remarks(reader: FigureReader, month: Month) -> Iterator[str]:
    decision = reader.frozen.decision(month.number)
    if decision is None:
        yield PROVISIONAL if reader.frozen.state(month.number) == "provisional" else OPEN
        return
    if decision.state == "restated":
        yield f"本期数字已重述（第 {decision.revision} 版），由{decision.decided_by}决定，原因：{decision.reason}。"
    for closing in reader.frozen.decisions[month.number]:
        if closing.override:
            yield _overridden(closing)


def _lacking(reader: FigureReader, month: Month) -> Iterator[str]:
    """Say that what came late can't be told of this month or the last, since the log has not all of it any more."""
    months = {gap.month for gap in reader.gaps}
    for one in (month.back(1), month):
        if one.number in months:
            yield f"{one} 的事件日志已不完整，所列为关账时的公布数，关账后的变化无从列出。"


def _overridden(decision: Decision) -> str:
    """Say what stood against closing, who closed all the same, and why: it is printed, always."""
    against = "；".join(decision.refusals)
    return (
        f"本月关账时有 {len(decision.refusals)} 项核对未通过（{against}），由{decision.decided_by}以"
        f"“{decision.override}”为由予以关账。"
    )


def _errata(reader: FigureReader, month: Month, metric_ids: Sequence[str]) -> Iterator[Erratum]:
    before = month.back(1)
    decisions = reader.frozen.decisions.get(before.number, [])
    closed = next((one for one in decisions if one.revision == FIRST), None)
    if closed is None:
        return
    if before.number not in {gap.month for gap in reader.gaps}:
        yield from _adjusted(reader, before, metric_ids)
    for back in range(2, MONTHS_BACK):
        older = month.back(back)
        decision = reader.frozen.decision(older.number)
        if decision is not None and decision.revision > FIRST and decision.decided_at > closed.decided_at:
            yield from _restated(reader, older, decision, metric_ids)


def _adjusted(reader: FigureReader, month: Month, metric_ids: Sequence[str]) -> Iterator[Erratum]:
    """Give the figures of a closed month that are shown otherwise as now known than as they were first published."""
    for metric_id in metric_ids:
        published = _revision(reader, metric_id, month, FIRST)
        now = None if published is None else reader.figure(metric_id, str(month), now=True)
        if published is not None and now is not None and now.shown != published.shown:
            metric = reader.metric(metric_id, str(month))
            changes = [] if metric.count.derived else changes_of(reader, metric, str(month))
            yield Erratum(str(month), published.label_zh, shown(published), shown(now), len(changes))


def _restated(reader: FigureReader, month: Month, decision: Decision, metric_ids: Sequence[str]) -> Iterator[Erratum]:
    for metric_id in metric_ids:
        first = _revision(reader, metric_id, month, decision.revision - 1)
        last = _revision(reader, metric_id, month, decision.revision)
        if first is not None and last is not None and first.shown != last.shown:
            yield Erratum(str(month), first.label_zh, shown(first), shown(last), 0, decision.reason)


def _revision(reader: FigureReader, metric_id: str, month: Month, revision: int) -> Figure | None:
    kept = reader.frozen.value(metric_id, month.number, {}, revision)
    if kept is None:
        return None
    return figure_of(reader.metric(metric_id, str(month)), month, kept.exact, kept.count, basis="closed")
