"""Composing an issue: its number and date by rule, comparisons without false zeros, charts with their tables."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from services.reporting.bulletin import Compared, shown
from services.reporting.composing import Standing, change
from services.reporting.masthead import Masthead, issue_date, issue_number, read_masthead
from services.reporting.wording import SECTION_ONE, named_figures
from services.runtime.errors import InvalidError
from services.statistics.figure import Month
from tests.bulletins import DECEMBER_2025, FOLDER, composer, december, figures
from tests.fakes.figures import DECEMBER, FakeFigures

BULLETINS_OWN = "各进驻部门（单位）窗口共受理"
"""How the published bulletin words its sentence, which we do not copy."""


def compared(metric_id: str) -> Compared:
    """Return one line of the comparison."""
    return next(one for one in december().comparison if one.figure.metric_id == metric_id)


def test_the_issue_of_december_is_the_twelfth_and_dated_seven_working_days_after() -> None:
    """As the published one was: the third of January is off, the Sunday after it is worked."""
    issue = december()
    assert (issue.issue_line, issue.issued_on) == ("第 12 期", date(2026, 1, 12))
    assert issue.date_line == "2026 年 1 月 12 日"


def test_the_date_follows_holidays_and_days_worked_instead() -> None:
    """January's issue waits for the Spring Festival; September's for the National Day."""
    assert issue_date(Month(2026, 1), 7) == date(2026, 2, 10)
    assert issue_date(Month(2025, 9), 7) == date(2025, 10, 16)
    assert issue_number(Month(2026, 1)) == 1


def test_a_date_beyond_the_calendar_is_refused_with_the_way_out() -> None:
    """No guess: the message says what to update, or how to give the date."""
    with pytest.raises(InvalidError, match=r"working_days\.csv.*--issued"):
        issue_date(Month(2026, 12), 7)


def test_section_one_has_all_its_figures_in_our_own_words() -> None:
    """Each number of the sentence is a part that names its figure; nothing of the bulletin's wording is in it."""
    first = december().sections[0]
    parts = [part for part in first.paragraphs[0] if part.figure]
    assert [part.figure for part in parts] == named_figures()
    assert len(parts) == 8
    assert "6.6 万件" in parts[0].text
    assert BULLETINS_OWN not in SECTION_ONE["zh"]


def test_every_figure_that_is_defined_is_in_the_issue() -> None:
    """All 39 of the published report, section one first."""
    assert len(december().figures) >= 39
    assert december().figures[0].metric_id == "items_handled"
    assert next(december().comparison_tables()).caption.startswith("一、")


def test_changes_are_reckoned_from_exact_values() -> None:
    """6.6 against 6.2 would be 6.5 %; from the exact values it is 7.5 %."""
    line = compared("items_handled")
    assert (shown(line.figure), shown(line.previous), line.change_previous) == ("6.6 万件", "6.2 万件", "+7.5%")


def test_a_month_without_data_is_said_to_be_without_and_never_zero() -> None:
    """There is no December 2024: no value, no change."""
    line = compared("items_handled")
    assert line.last_year is None
    assert (shown(line.last_year), line.change_last_year) == ("无数据", "—")


def test_a_true_zero_stays_a_zero() -> None:
    """A month that was counted may have had none; a change against none is a dash."""
    found = FakeFigures({"2025-12": DECEMBER, "2025-11": {"consult_phone": 0}}, closed=["2025-11", "2025-12"])
    issue = composer(found).compose(DECEMBER_2025, read_masthead(FOLDER), FOLDER, Standing()).bulletin
    line = next(one for one in issue.comparison if one.figure.metric_id == "consult_phone")
    assert (shown(line.previous), line.change_previous) == ("0 人/次", "—")


def test_a_month_that_is_not_closed_is_marked_and_nothing_is_reckoned_from_it() -> None:
    """Its log may hold a few early events alone: a change of half a million per cent would be printed."""
    found = FakeFigures({"2025-12": DECEMBER, "2025-11": {"items_handled": 12}}, closed=["2025-12"])
    issue = composer(found).compose(DECEMBER_2025, read_masthead(FOLDER), FOLDER, Standing()).bulletin
    row = next(issue.comparison_tables()).rows[0]
    assert row[2:4] == ["0.00 万件＊", "—"]
    assert issue.comparison_note.startswith("带＊的月份尚未关账")


def test_published_aggregates_are_marked() -> None:
    """A month that is known only from its published report says so, in the comparison and in the chart."""
    figure = figures().figure("items_handled", "2025-01")
    assert shown(figure) == "4.5 万件（已公布汇总）"
    line = december().charts[0]
    assert [point.note for point in line.points][:4] == ["已公布汇总"] * 3 + ["未关账"]
    assert "已公布汇总" in line.note


def test_a_gap_in_twelve_months_is_a_gap() -> None:
    """August has no data: no value in the chart, and words in its table."""
    august = december().charts[0].points[7]
    assert (august.label, august.value, august.shown) == ("2025 年 8 月", None, "无数据")


def test_charts_have_names_and_the_same_values_in_a_table() -> None:
    """Departments, channels and cities by name, behind each chart every value of it."""
    _, bars, shares, tiles, lag = december().charts
    assert next(row[0] for row in bars.table().rows) == "省市场监管局"
    assert [point.label for point in shares.points] == ["网上", "综合窗口", "部门窗口"]
    assert [point.label for point in lag.points] == ["送达用时中位数", "送达用时 95 百分位"]
    assert {point.label for point in tiles.points} >= {"成都市", "阿坝藏族羌族自治州", "四川省"}
    for chart in (bars, shares, tiles, lag):
        assert [row[1] for row in chart.table().rows] == [point.shown for point in chart.points]


def test_a_frame_of_ones_own_replaces_the_shipped_one(tmp_path: Path) -> None:
    """Another centre has another title and other headings, and a field it mistypes is named."""
    (tmp_path / "bulletin.yaml").write_text(
        "title: 市政务月报\nissuer: 市中心\nissued_after_working_days: 5\nsection_one: 运行\n"
        "sections: {'2': 动态}\nreport_to: 市政府。\nsend_to: 各部门。\n",
        encoding="utf-8",
    )
    found: Masthead = read_masthead(tmp_path)
    assert (found.title, found.issued_after_working_days, found.charts) == ("市政务月报", 5, ())
    (tmp_path / "bulletin.yaml").write_text("tittle: x\n", encoding="utf-8")
    with pytest.raises(InvalidError, match=r"bulletin\.yaml: tittle"):
        read_masthead(tmp_path)


def test_a_change_against_nothing_or_zero_is_a_dash() -> None:
    """And a fall has its sign."""
    december_figure = figures().figure("consult_phone", "2025-12")
    assert change(december_figure, None) == "—"
    doubled = FakeFigures({"2025-12": {"consult_phone": 2486}}, closed=["2025-12"]).figure("consult_phone", "2025-12")
    assert change(december_figure, doubled) == "-50.0%"
    assert isinstance(doubled.exact, int | Decimal)
