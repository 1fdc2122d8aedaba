"""What is opened and closed as things change: once each, not for a moment's trouble, and nothing that was not seen."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from services.alerting.book import Book, Judged
from services.runtime.alerts import Alert, AlertKind

START = datetime(2026, 1, 5, tzinfo=UTC)
AWAY, HELD = AlertKind.SERVER_AWAY, AlertKind.LINE_HELD


def at(seconds: float) -> datetime:
    """Return a moment so many seconds after the start."""
    return START + timedelta(seconds=seconds)


def judged(*alerts: Alert, kinds: tuple[AlertKind, ...] = (AWAY, HELD)) -> Judged:
    """Return what the rules have found of these kinds."""
    found = Judged()
    found.add(kinds, alerts)
    return found


def wrong(kind: AlertKind = AWAY, subject: str = "postgresql", size: int = 1) -> Alert:
    """Return an alert."""
    return Alert(kind, subject, START.isoformat(), "detail", size=size)


def states(alerts: list[Alert]) -> list[str]:
    """Return what is written."""
    return [one.state for one in alerts]


def test_what_is_wrong_is_opened_once_and_closed_once_it_stays_over() -> None:
    """Not at the first sign of an end."""
    book = Book(clear_s=10)
    assert states(book.judge(judged(wrong()), at(0))) == ["open"]
    assert book.judge(judged(wrong()), at(2)) == []
    assert book.judge(judged(), at(4)) == []
    assert book.judge(judged(wrong()), at(6)) == []
    assert book.judge(judged(), at(8)) == []
    assert states(book.judge(judged(), at(18))) == ["closed"]
    assert book.judge(judged(), at(40)) == []


def test_what_ends_for_a_reason_of_its_own_says_so_whether_it_was_looked_at_or_not() -> None:
    """An agency was removed; what somebody raises about it once more is closed once more."""
    book = Book(clear_s=10)
    book.take(wrong(HELD, "gone"))
    for begin in (0, 100):
        again = judged(wrong(HELD, "gone"), kinds=(AWAY,))
        again.end(list(book.open.values()), "removed")
        assert book.judge(again, at(begin)) == []
        assert [(one.state, one.detail) for one in book.judge(again, at(begin + 10))] == [("closed", "removed")]
        assert book.judge(judged(), at(begin + 11)) == []
        book.take(wrong(HELD, "gone"))


def test_a_group_that_gets_over_it_is_no_alert() -> None:
    """Whatever it was called meanwhile, it must stand for five seconds."""
    troubled, book = AlertKind.GROUP_TROUBLED, Book()
    for seconds, kinds in ((0, 1), (4, 1), (5, 0), (6, 1), (10, 1)):
        found = [wrong(troubled, "router", size=seconds + 1)] * kinds
        assert book.judge(judged(*found, kinds=(troubled,)), at(seconds)) == []
    assert states(book.judge(judged(wrong(troubled, "router"), kinds=(troubled,)), at(11))) == ["open"]


def test_what_its_own_process_raises_is_raised_for_it_only_when_it_did_not() -> None:
    """The pusher was killed between parking and telling."""
    book = Book()
    assert book.judge(judged(wrong(HELD, "market")), at(0)) == []
    assert states(book.judge(judged(wrong(HELD, "market")), at(30))) == ["open"]
    told = Book()
    told.take(wrong(HELD, "market"))
    assert told.judge(judged(wrong(HELD, "market")), at(30)) == []


def test_what_could_not_be_looked_at_is_neither_opened_nor_closed() -> None:
    """A monitor that is away says nothing about lines."""
    book = Book()
    book.take(wrong(HELD, "market"))
    assert book.judge(judged(kinds=(AWAY,)), at(0)) == []
    assert book.judge(judged(kinds=(AWAY,)), at(600)) == []
    assert states(book.judge(judged(), at(610)) + book.judge(judged(), at(630))) == ["closed"]


def test_more_of_it_is_said_anew_but_not_every_moment() -> None:
    """A count that rises each second is written once a minute."""
    book, letters = Book(), AlertKind.DEAD_LETTERS
    written = [
        one
        for second in range(0, 300, 2)
        for one in book.judge(judged(wrong(letters, "router", second + 1), kinds=(letters,)), at(second))
    ]
    assert 4 <= len(written) <= 6
    assert written[-1].size > 200


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([-3600.0, 0.0, 2.0, 15.0, 3600.0])), max_size=60))
def test_openings_and_closings_alternate_whatever_the_clock_does(steps: list[tuple[bool, float]]) -> None:
    """Also when it goes back."""
    book, now, seen = Book(clear_s=10), 0.0, []
    for is_wrong, seconds in steps:
        now += seconds
        seen += states(book.judge(judged(*([wrong()] if is_wrong else [])), at(now)))
    assert all(one != two for one, two in itertools.pairwise(seen))
    assert seen[:1] in ([], ["open"])
