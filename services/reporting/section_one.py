"""Section one of the monthly report (一、总体运行情况): the figures of a month, exact and as shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from schemas.times import month_bounds
from services.runtime.errors import FieldProblem, InvalidError
from services.statistics.definitions import SECTION_ONE, Metric
from services.statistics.repository import FigureReader
from services.statistics.rounding import shown


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: exact value with its unit, and as it is printed."""

    metric_id: str
    label_zh: str
    label_en: str
    exact: int
    unit: str
    shown: str
    shown_unit: str


@dataclass(frozen=True, slots=True)
class SectionOne:
    """The figures of one month, and how many events they were counted from."""

    month: str
    from_: str
    to: str
    events: int
    figures: Sequence[Figure]

    def to_json(self) -> dict[str, object]:
        """Return the section as JSON values."""
        found = asdict(self)
        found["from"] = found.pop("from_")
        return found | {"sentence": self.sentence()}

    def sentence(self) -> str:
        """Return the section in words, with every number taken from the figures."""
        by_id: Mapping[str, str] = {f.metric_id: f"{f.shown} {f.shown_unit}" for f in self.figures}
        year, month = self.month.split("-")
        return (
            f"{year} 年 {int(month)} 月，省本级共办理政务服务事项 {by_id['items_handled']}。"
            f"其中全程网办受理 {by_id['online_accepted']}、办结 {by_id['online_completed']}；"
            f"综合窗口受理 {by_id['integrated_window_accepted']}，窗口出件 {by_id['window_issued']}，"
            f"大厅现场邮寄 {by_id['hall_mailed']}；"
            f"解答电话咨询 {by_id['consult_phone']}、现场咨询 {by_id['consult_onsite']}。"
        )


def parse_month(text: str) -> tuple[int, int]:
    """Return year and month of ``2025-12``; raises InvalidError."""
    year, _, month = text.partition("-")
    if len(year) == 4 and year.isdigit() and len(month) == 2 and month.isdigit() and 1 <= int(month) <= 12:
        return int(year), int(month)
    raise InvalidError([FieldProblem("/month", f"应为 2025-12 这样的年月 (a month like 2025-12): {text}")])


def section_one(read: FigureReader, month: str) -> SectionOne:
    """Count a month, all figures on one snapshot; raises InvalidError for what is no month."""
    bounds = month_bounds(*parse_month(month))
    figures = [_figure(metric, read.count(metric, bounds)) for metric in SECTION_ONE]
    return SectionOne(month, bounds[0].isoformat(), bounds[1].isoformat(), read.events(bounds), figures)


def _figure(metric: Metric, exact: int) -> Figure:
    printed = shown(exact, metric.shown_unit)
    return Figure(metric.id, metric.label_zh, metric.label_en, exact, metric.unit, printed.value, printed.unit)
