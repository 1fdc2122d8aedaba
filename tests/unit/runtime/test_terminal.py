"""What stands in a table at the terminal stands there as it was said: it may be anybody's words."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rich.console import Console

from consumers.monitor.showing import print_snapshot
from consumers.monitor.top import watch
from consumers.pusher.commands import print_parked
from services.delivery.lag import AgencyLag, Deadline, GroupLag, Latencies, ProbeLag, Snapshot
from services.portal.commands import show
from services.portal.trace_commands import print_event
from services.quarantine.parked import Parked
from services.statistics.commands import print_figures
from services.statistics.figure import Figure

AT = "2026-11-25T08:00:00+00:00"
SAID = "no bed at [/data/beds] [maintenance] [red] urn:cd:health9 :warning:"
"""A field's path, a word and a colour in brackets, and what rich takes for emoji: all of it a receiver may say."""


def lag(said: str) -> Snapshot:
    """Return a snapshot in which a line is held with these words, by an agency and a group of that name too."""
    agency = AgencyLag(said, "webhook", "held", AT, 1.0, AT, 1, True, AT, said, False, Latencies(), (), Deadline(AT))
    group = GroupLag(said, said, 1, "stalled", AT, 1.0, 1)
    return Snapshot(AT, 60, [agency], [group], ProbeLag("refused", AT, said), away_since=AT, away_why=said)


def top(said: str) -> None:
    """Print what ``hongyan top`` shows."""
    watch(lambda: lag(said), Console(), 1.0)


def trace(said: str) -> None:
    """Print an event that an agency refused with these words, twice."""
    receipt = {"channel": "webhook", "outcome": "rejected", "at": AT, "reason": said}
    agency = {"agency": said, "why": "match", "subscriptions": [said], "state": "rejected", "delivered_at": AT}
    print_event(
        {"id": said, "type": said, "source": said, "subject": said, "published_at": AT, "verdict": "deadletter"}
        | {"reason": said, "completeness": {"delivered": 0, "entitled": 1, "accepted": 0}}
        | {"agencies": [agency | {"attempts": 1, "receipts": [receipt, receipt]}]}
    )


def parked(said: str) -> None:
    """Print the list of what is parked."""
    print_parked([Parked(said, 1, said, said, said, "parked", said, AT, said)])


def figures(said: str) -> None:
    """Print a figure that is broken down by this value."""
    figure = Figure("items", 1, "办件", "items", "2025-12", "month", 1, "件", "1", "件", "whole", 1, {"source": said})
    print_figures([figure], [said], as_json=False)


def rows(said: str) -> None:
    """Print a list of the administration API."""
    show([{"id": said, "name": [said]}], {"id": "编号", "name": "名称"}, as_json=False)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the terminal room for every cell in one line."""
    monkeypatch.setenv("COLUMNS", "1000")


@pytest.mark.parametrize(
    "printing",
    [lambda said: print_snapshot(lag(said)), top, trace, parked, figures, rows],
    ids=["lag", "top", "trace", "parked list", "figure", "lists"],
)
def test_what_anybody_said_is_printed_as_it_was_said(
    printing: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Brackets are no markup, colons no emoji: nothing is lost, changed, or the end of the command."""
    printing(SAID)
    printed = capsys.readouterr().out
    printing("PLAINWORD")
    assert printed.count(SAID) == capsys.readouterr().out.count("PLAINWORD") > 0


def test_a_terminal_obeys_nobody_s_words(capsys: pytest.CaptureFixture[str]) -> None:
    """What would clear the screen, or write over what stands there, is seen as something that can't be shown."""
    for printing in (parked, trace):
        printing("\x1b[2J\r\x9b31mgone")
        printed = capsys.readouterr().out
        assert ("�[2J��31mgone" in printed, "\x1b[2J" in printed, "\r" in printed) == (True, False, False)
