"""Sessions by a clock passed in: how long they last, and what is left of them while PostgreSQL is away."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from services.identity.people import Person
from services.identity.portal_sessions import Session, SessionRepository
from services.portal.web.outages import DATABASE, KAFKA, Away, Outages
from services.portal.web.sessions import Limits, Sessions
from services.runtime.errors import DatabaseUnavailableError

LIMITS = Limits(timedelta(minutes=30), timedelta(hours=12))
PERSON = Person("zhang", "张三", agency="market")


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 25, 9, tzinfo=UTC)

    def now(self) -> datetime:
        """Return the time."""
        return self.time

    def monotonic(self) -> float:
        """Return the time in seconds."""
        return self.time.timestamp()

    def passes(self, **more: float) -> None:
        """Let time pass."""
        self.time += timedelta(**more)


class Kept:
    """Sessions in memory, in the repository's form; ``away`` makes every call fail as PostgreSQL's absence does."""

    def __init__(self) -> None:
        self.rows: dict[str, Session] = {}
        self.away = False
        self.reads = 0

    def _check(self) -> None:
        if self.away:
            raise DatabaseUnavailableError("PostgreSQL: connection refused")

    def add(self, session: Session) -> None:
        self._check()
        self.rows[session.digest] = session

    def get(self, digest: str) -> Session | None:
        self.reads += 1
        self._check()
        return self.rows.get(digest)

    def touch(self, digest: str, at: datetime) -> None:
        self._check()
        self.rows[digest] = replace(self.rows[digest], seen_at=at)

    def end(self, digests: set[str]) -> None:
        self._check()
        for digest in digests:
            self.rows.pop(digest, None)

    def end_all(self, person: str, but: str = "") -> list[str]:
        self._check()
        ended = [one.digest for one in self.rows.values() if one.person.id == person and one.digest != but]
        self.end(set(ended))
        return ended

    def expire(self, seen_before: datetime, created_before: datetime) -> None:
        self._check()
        over = {d for d, one in self.rows.items() if one.seen_at < seen_before or one.created_at < created_before}
        self.end(over)


class Bench:
    """Sessions with all that they stand on."""

    def __init__(self) -> None:
        self.clock, self.kept = Clock(), Kept()
        self.outages = Outages(self.clock)
        self.outages.watch(DATABASE, lambda: not self.kept.away)
        self.sessions = Sessions(cast("SessionRepository", self.kept), self.clock, LIMITS, self.outages)

    def begin(self) -> str:
        """Sign in."""
        return self.sessions.begin(PERSON, "192.0.2.1", "test")

    def uses(self, token: str) -> bool:
        """Load a page; tell whether one is signed in."""
        return self.sessions.find(token, touch=True) is not None


@pytest.fixture
def bench() -> Bench:
    """Return sessions on a clock."""
    return Bench()


def test_a_session_that_is_not_used_ends_and_one_that_is_goes_on(bench: Bench) -> None:
    """Half an hour from the last use, not from the first."""
    token, idle = bench.begin(), bench.begin()
    for _ in range(3):
        bench.clock.passes(minutes=20)
        assert bench.uses(token)
    assert not bench.uses(idle)
    bench.clock.passes(minutes=30)
    assert not bench.uses(token)


def test_what_a_page_fetches_by_itself_keeps_nobody_signed_in(bench: Bench) -> None:
    """A live page that is left open ends like any other."""
    token = bench.begin()
    for _ in range(5):
        bench.clock.passes(minutes=5)
        assert bench.sessions.find(token, touch=False) is not None
    bench.clock.passes(minutes=5)
    assert bench.sessions.find(token, touch=False) is None


def test_a_session_ends_after_its_longest_time_however_much_it_is_used(bench: Bench) -> None:
    """Twelve hours."""
    token = bench.begin()
    for _ in range(12 * 3 - 1):
        bench.clock.passes(minutes=20)
        assert bench.uses(token)
    bench.clock.passes(minutes=20)
    assert not bench.uses(token)


def test_a_token_is_nowhere_kept(bench: Bench) -> None:
    """Who reads the database can sign in as nobody."""
    token = bench.begin()
    assert token not in repr(bench.kept.rows)


def test_who_is_signed_in_goes_on_while_postgresql_is_away_and_a_stranger_does_not(bench: Bench) -> None:
    """By what was read lately; and the server is not asked at each page meanwhile."""
    token, unseen = bench.begin(), bench.begin()
    assert bench.uses(token)
    bench.kept.away = True
    assert bench.uses(token)
    asked = bench.kept.reads
    bench.clock.passes(minutes=20)
    assert bench.uses(token)
    assert not bench.uses(unseen)
    assert not bench.uses("made-up")
    assert bench.kept.reads == asked
    bench.clock.passes(minutes=31)
    assert not bench.uses(token)


def test_leaving_while_postgresql_is_away_is_for_good(bench: Bench) -> None:
    """The session is ended here at once, and there when the server is back."""
    token = bench.begin()
    assert bench.uses(token)
    bench.kept.away = True
    found = bench.sessions.find(token, touch=True)
    assert found is not None
    bench.sessions.end(found.digest)
    assert not bench.uses(token)
    bench.kept.away = False
    bench.outages.look(DATABASE)
    assert not bench.uses(token)
    other = bench.begin()
    bench.clock.passes(minutes=1)
    assert bench.uses(other)
    assert [row.created_at for row in bench.kept.rows.values()] == [bench.clock.now() - timedelta(minutes=1)]


def test_leaving_everywhere_ends_all_sessions_but_this_one(bench: Bench) -> None:
    """Those that were read a moment ago too."""
    tokens = [bench.begin() for _ in range(3)]
    assert all(bench.uses(token) for token in tokens)
    found = bench.sessions.find(tokens[0], touch=False)
    assert found is not None
    assert bench.sessions.still(found.digest)
    assert bench.sessions.end_all("zhang", but=found.digest) == 2
    assert bench.sessions.end_all("zhang") == 1
    assert not bench.sessions.still(found.digest)
    assert [bench.uses(token) for token in tokens] == [False, False, False]


def test_who_is_disabled_is_out_at_once(bench: Bench) -> None:
    """Whatever their session says."""
    token = bench.begin()
    for digest, row in bench.kept.rows.items():
        bench.kept.rows[digest] = replace(row, person=replace(PERSON, state="disabled"))
    assert not bench.uses(token)


def test_a_server_is_away_since_it_last_answered(bench: Bench) -> None:
    """Each of several by itself."""
    bench.outages.look(DATABASE)
    last = bench.clock.now()
    bench.clock.passes(seconds=5)
    bench.kept.away = True
    bench.outages.look(DATABASE)
    assert bench.outages.away() == [Away(DATABASE, last)]
    bench.outages.watch(KAFKA, lambda: False)
    bench.outages.look(KAFKA)
    assert [one.name for one in bench.outages.away()] == [DATABASE, KAFKA]
    bench.kept.away = False
    bench.outages.look(DATABASE)
    assert [one.name for one in bench.outages.away()] == [KAFKA]
