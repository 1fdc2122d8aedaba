"""What an issue says of closing, on a real PostgreSQL: not closed, closed over objections, restated, and errata."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from services.reporting.composing import Composer, Standing
from services.reporting.html import to_html
from services.reporting.masthead import read_masthead
from services.reporting.plain import to_text
from services.reporting.standing import standing
from services.statistics.closing import Closing, Signature
from services.statistics.figure import Month
from tests.bulletins import FOLDER
from tests.fact_stores import CONSUMER, METRICS, SHAPES, Day, OwnStore

pytestmark = pytest.mark.servers
SIGNED = Signature("张三", "按月关账")
NOVEMBER, DECEMBER, JANUARY = Month(2025, 11), Month(2025, 12), Month(2026, 1)
IDS = ("items_handled", "online_completed", "consult_phone")


@pytest.fixture
def store(database_dsn: str) -> Iterator[OwnStore]:
    """Return a store with two completions in November and one in December."""
    found = OwnStore(database_dsn)
    found.put(
        found.fact("n1", "2025-11-03T09:00:00"),
        found.fact("n2", "2025-11-28T09:00:00"),
        found.fact("d1", "2025-12-05T09:00:00"),
    )
    yield found
    found.store.close()


def closing(store: OwnStore, clock: Day, against: Sequence[str] = ()) -> Closing:
    """Return closing on a day, with this against it."""
    return Closing(store.dsn, CONSUMER, METRICS, SHAPES, lambda _month, _positions: against, clock)


def known(store: OwnStore, month: Month) -> Standing:
    """Return what an issue says."""
    with store.reading() as reader:
        return standing(reader, month, IDS)


def test_a_month_that_is_open_or_provisional_says_so(store: OwnStore) -> None:
    """Nobody takes figures that may still change for final ones; a closed month has no remark."""
    assert "尚未关账" in known(store, DECEMBER).remarks[0]
    closing(store, Day(1, 5)).make_provisional("2025-12", SIGNED)
    assert known(store, DECEMBER).remarks[0].startswith("本期数字为初步数")
    closing(store, Day(1, 12)).close("2025-12", SIGNED)
    assert known(store, DECEMBER).remarks == []
    assert "由本月 1 个事件统计" in known(store, DECEMBER).source


def test_why_a_month_was_closed_over_objections_is_printed(store: OwnStore) -> None:
    """What stood against it, who closed it all the same, and with which reason."""
    signature = Signature("李四", "按月关账", override="来源系统停机，已书面确认")
    closing(store, Day(1, 12), ["死信尚有 2 条"]).close("2025-12", signature)
    (remark,) = known(store, DECEMBER).remarks
    assert "1 项核对未通过（死信尚有 2 条）" in remark
    assert "由李四以“来源系统停机，已书面确认”为由予以关账" in remark


def test_what_came_late_is_corrected_in_the_next_issue(store: OwnStore) -> None:
    """November printed 2 cases; a third was told after it was closed: December's issue says so, with what caused it."""
    closing(store, Day(1, 1)).close("2025-11", SIGNED)
    assert known(store, DECEMBER).errata == []
    store.put(*(store.fact(f"late{n}", "2025-11-29T10:00:00") for n in range(60)))
    found = {one.label: one for one in known(store, DECEMBER).errata}
    handled = found["省本级办理政务服务事项"]
    assert (handled.month, handled.published, handled.now, handled.events) == ("2025-11", "0.00 万件", "0.01 万件", 60)
    assert "由 60 个迟到或更正的事件引起" in handled.sentence()
    assert "电话咨询" not in found


def test_the_issue_after_the_next_does_not_repeat_it_but_tells_what_was_restated_since(store: OwnStore) -> None:
    """January's issue has nothing of November, until November is restated after December was closed."""
    closing(store, Day(1, 1)).close("2025-11", SIGNED)
    store.put(*(store.fact(f"late{n}", "2025-11-29T10:00:00") for n in range(60)))
    closing(store, Day(1, 12)).close("2025-12", SIGNED)
    assert known(store, JANUARY).errata == []
    closing(store, Day(2, 1)).restate("2025-11", Signature("王五", "迟到办件一并更正"))
    found = known(store, JANUARY).errata
    assert [one.label for one in found] == ["省本级办理政务服务事项", "办结政务服务事项（全程网办）"]
    assert found[0].sentence().endswith("现为 0.01 万件，原因：迟到办件一并更正。")
    (remark,) = known(store, NOVEMBER).remarks
    assert remark == "本期数字已重述（第 2 版），由王五决定，原因：迟到办件一并更正。"


def test_an_issue_is_composed_of_frozen_figures_and_says_all_that(store: OwnStore) -> None:
    """From the store to the page: the closed figure, the comparison with the closed month before, the erratum."""
    closing(store, Day(1, 1)).close("2025-11", SIGNED)
    closing(store, Day(1, 12)).close("2025-12", SIGNED)
    store.put(*(store.fact(f"late{n}", "2025-11-29T10:00:00") for n in range(60)))
    store.put(*(store.fact(f"later{n}", "2025-12-29T10:00:00") for n in range(70)))
    with store.reading() as reader:
        groups = [(g.title_zh, g.ids) for g in reader.metrics.groups if g.name == "section_one"]
        composer = Composer(reader, groups, lambda dimension, value: reader.label(dimension, value, "2025-12"))
        masthead = read_masthead(FOLDER)
        issue = composer.compose(DECEMBER, masthead, FOLDER / "none", standing(reader, DECEMBER, groups[0][1])).bulletin
    row = next(issue.comparison_tables()).rows[0]
    assert row == ["省本级办理政务服务事项", "0.00 万件", "0.00 万件", "-50.0%", "无数据", "—"]
    assert "更正" in to_html(issue)
    assert "原公布 0.00 万件，现为 0.01 万件" in to_text(issue)
