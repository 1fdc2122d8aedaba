"""What is printed is all there: no cell is cut, no column left out unsaid, and every reason can be copied whole."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from consumers.monitor.showing import COLUMNS, print_snapshot, show, why
from services.delivery.lag import AgencyLag, Deadline, GroupLag, Latencies, ProbeLag, Snapshot

AT = "2026-11-25T08:00:00+00:00"
WHY = "HTTP 503 the receiver says that its database is being moved until tomorrow evening, please come again then"
AGENCY = "province-market-regulation-bureau-of-the-second-district"
TOPIC = "sichuan.approvals.events.statistics-of-enterprises.v1"

FINE = AgencyLag(AGENCY, "webhook", "ok", AT, None, None, 0, True, None, None, False, Latencies(), (), Deadline(AT))
HELD = replace(FINE, state="held", held_since=AT, held_why=WHY, oldest_age_s=86_399.5, backlog=1_234_567)
REFUSING = replace(FINE, state="parked", parked=5, parked_at=AT, parked_why="HTTP 401")


def snapshot(*agencies: AgencyLag) -> Snapshot:
    """Return a snapshot of these, and of one group."""
    return Snapshot(
        AT, 900, agencies, [GroupLag("statistics", TOPIC, 1_234_567, "ok", AT, 59.9, 1)], ProbeLag("ok", AT)
    )


def printed(found: Snapshot, width: int) -> str:
    """Return what is printed at this width."""
    console = Console(file=io.StringIO(), width=width)
    print_snapshot(found, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def cells(text: str, column: int) -> str:
    """Return what stands in a column of all rows, its lines put together."""
    rows = [line.split("│") for line in text.splitlines() if line.startswith("│")]
    return "".join(row[column].strip() for row in rows if len(row) > column)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_nothing_is_cut_at_any_width(width: int) -> None:
    """What is too long for its cell goes on in the next line."""
    text = printed(snapshot(HELD), width)
    assert "…" not in text
    assert AGENCY in cells(text, 1)
    assert TOPIC in cells(text, 2)
    assert "1,234,567" in cells(text, 5)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_reason_stands_below_the_table_in_one_line(width: int) -> None:
    """It can be copied whole, whatever the terminal's width."""
    lines = printed(snapshot(HELD), width).splitlines()
    assert f"{AGENCY}：自 2026-11-25 16:00:00 {WHY}" in lines


def test_what_there_is_no_room_for_is_named() -> None:
    """And nothing is said where there is room for all."""
    narrow, wide = printed(snapshot(FINE), 80), printed(snapshot(FINE), 120)
    assert f"未列：{'、'.join(column.title for column in COLUMNS if column.wide)}" in narrow
    assert "未列" not in wide
    assert all(column.title in wide for column in COLUMNS)


def test_an_agency_that_refuses_everything_is_marked_with_how_many_and_what_to_do() -> None:
    """In words, and with the command that lists them."""
    text = printed(snapshot(REFUSING), 120)
    assert ("! 停放" in text, cells(text, 6).startswith("5")) == (True, True)
    assert (
        f"{AGENCY}：停放未处理 5 件，最近 2026-11-25 16:00:00 HTTP 401 (parked: hongyan parked list {AGENCY})" in text
    )


def test_a_page_of_so_many_lines_holds_the_reasons_too() -> None:
    """Who is in trouble takes two lines; how many are left out is said."""
    agencies = [replace(HELD, agency=f"a{number}") for number in range(9)]
    console = Console(file=io.StringIO(), width=120)
    for part in show(snapshot(*agencies), 120, most=6):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    assert "另有 6 个单位未列出" in console.file.getvalue()


def test_a_probe_that_is_off_or_unknown_says_why() -> None:
    """The words that the monitor gave, or why there are none."""
    for probe, said in (
        (ProbeLag("off", AT, "no key"), "未启用 no key"),
        (ProbeLag("unknown", AT, "away"), "未知 away"),
    ):
        assert said in printed(replace(snapshot(FINE), probe=probe), 80)


def test_of_who_pulls_it_is_said_that_it_may_have_fetched_and_not_acknowledged() -> None:
    """A cursor that stands tells no more than that; who is pushed to does not acknowledge at all."""
    stopped = replace(FINE, channel="pull", state="stopped")
    assert why(stopped) == "已停止，自 2026-11-25 16:00:00：没有来取，或取了没有回执 (not fetched, or not acknowledged)"
    assert why(replace(stopped, channel="webhook")) == "已停止，自 2026-11-25 16:00:00"
