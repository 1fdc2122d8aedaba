"""Who has not acknowledged a follow-up yet, and until when: one query of the ledger's database."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from consumers.alerter.owed import FollowUpsLook
from schemas.contracts import load_contracts
from schemas.times import SHANGHAI
from schemas.topics import Topics
from services.alerting.rules import overdue
from services.ledger import reading
from services.ledger.reading import LedgerReader, SearchTooWideError
from services.portal.tracking import Tracking
from tests.events import CORRECTED, ISSUED, REVOKED
from tests.fakes.kafka import FakeKafka
from tests.hand_ledger import ACT, HandLedger

pytestmark = pytest.mark.servers


@dataclass
class Wall:
    """A clock that a test sets."""

    at: datetime = ACT

    def now(self) -> datetime:
        """Return the time."""
        return self.at

    def monotonic(self) -> float:
        """Return seconds."""
        return self.at.timestamp()


@dataclass
class Desk:
    """A ledger, and who is asked of it."""

    ledger: HandLedger
    reader: LedgerReader
    tracking: Tracking
    clock: Wall

    def states(self, **asked: bool) -> dict[tuple[str, str | None], str]:
        """Return event and agency with what is said of them."""
        return {(row["event"], row["agency"]): row["state"] for row in self.tracking.follow_ups(**asked)}


@pytest.fixture
def desk(database_dsn: str) -> Iterator[Desk]:
    """A ledger with nothing in it."""
    ledger, clock = HandLedger(database_dsn), Wall()
    with ConnectionPool(database_dsn, min_size=1, max_size=1) as pool:
        reader = LedgerReader(pool, clock)
        yield Desk(ledger, reader, Tracking(FakeKafka(), Topics(), load_contracts(), reader, clock), clock)
    ledger.close()


def test_the_newest_receipt_of_each_kind_counts_and_the_agencys_word_most(desk: Desk) -> None:
    """Parked, put back and delivered is delivered; accepted and then rejected is rejected; a word beats a delivery."""
    desk.ledger.event("r1", "a", "b", "c", "d", "e")
    assert set(desk.states().values()) == {"underway"}
    desk.ledger.receipt("a", "r1", "parked", 1)
    desk.ledger.receipt("b", "r1", "parked", 1)
    desk.ledger.receipt("b", "r1", "delivered", 2, cursor=9)
    for agency in ("c", "d", "e"):
        desk.ledger.receipt(agency, "r1", "delivered", 1)
    desk.ledger.receipt("d", "r1", "accepted", 2)
    desk.ledger.receipt("d", "r1", "rejected", 3)
    desk.ledger.receipt("e", "r1", "rejected", 2)
    desk.ledger.receipt("e", "r1", "accepted", 3)
    desk.ledger.receipt("e", "r1", "delivered", 4)
    wanted = {"a": "parked", "b": "delivered", "c": "delivered", "d": "rejected"}
    assert desk.states() == {("r1", agency): state for agency, state in wanted.items()}
    assert desk.states(open_only=False) == desk.states() | {("r1", "e"): "accepted"}


def test_every_follow_up_is_asked_for_and_nothing_else(desk: Desk) -> None:
    """By its type, or by what it says it follows; each once, however often it was sent; one that nobody had too."""
    desk.ledger.event("e1", "a", kind=ISSUED)
    desk.ledger.event("e2", "a", kind=ISSUED, follows="e1")
    desk.ledger.event("c1", "a", kind=CORRECTED)
    desk.ledger.event("c1", kind=CORRECTED, verdict="duplicate")
    desk.ledger.event("c1", "b", kind=CORRECTED, verdict="backfilled")
    desk.ledger.event("bad", "a", verdict="deadletter")
    desk.ledger.event("r9")
    assert desk.states() == {("e2", "a"): "underway", ("c1", "a"): "underway", ("c1", "b"): "underway"}
    assert desk.states(open_only=False) == desk.states() | {("r9", None): "nobody"}


def test_a_deadline_is_the_end_of_its_last_working_day_in_shanghai(desk: Desk) -> None:
    """Five working days from 29 December 2025: New Year's holiday does not count, the Sunday worked instead does."""
    desk.ledger.event("r1", "a", "b")
    desk.ledger.receipt("b", "r1", "accepted", 1)
    desk.clock.at = datetime(2026, 1, 6, 23, 59, 59, tzinfo=SHANGHAI)
    (row,) = desk.tracking.follow_ups()
    assert (row["deadline"], row["overdue"]) == ("2026-01-06", False)
    assert desk.tracking.follow_ups(overdue_only=True) == []
    desk.clock.at += timedelta(seconds=1)
    (late,) = desk.tracking.follow_ups(overdue_only=True)
    assert (late["agency"], late["overdue"]) == ("a", True)
    assert [row["overdue"] for row in desk.tracking.follow_ups(open_only=False) if row["agency"] == "b"] == [False]


def test_a_quarter_is_looked_through_and_more_when_it_is_asked_for(desk: Desk) -> None:
    """What came on the log before is answered when somebody says since when."""
    desk.ledger.event("r1", "a")
    desk.clock.at = ACT + timedelta(days=91)
    assert list(desk.states()) == [("r1", "a")]
    desk.clock.at = ACT + timedelta(days=93)
    assert desk.states() == {}
    rows = desk.tracking.follow_ups(since=ACT)
    assert [(row["event"], row["overdue"]) for row in rows] == [("r1", True)]


def test_no_deadline_is_guessed(desk: Desk) -> None:
    """Beyond the calendar, without a time, and where the catalogue sets none: it is said why; nothing is overdue."""
    desk.ledger.event("late", "a", at=datetime(2026, 12, 30, 12, tzinfo=SHANGHAI))
    desk.ledger.event("timeless", "a", at=None)
    desk.ledger.event("free", "a", kind="cn.gov.sc.credit.removed")
    desk.clock.at = datetime(2030, 1, 1, tzinfo=SHANGHAI)
    found = {row["event"]: row for row in desk.tracking.follow_ups(since=ACT)}
    assert {row["deadline"] for row in found.values()} == {None}
    assert "working_days.csv" in found["late"]["no_deadline"]
    assert "no time" in found["timeless"]["no_deadline"]
    assert "sets none" in found["free"]["no_deadline"]
    assert desk.tracking.follow_ups(overdue_only=True) == []


def test_a_follow_up_near_its_deadline_is_an_alert_to_its_agency_until_it_is_acknowledged(
    desk: Desk,
) -> None:
    """A warning a working day before, critical once it is past, nothing for who has accepted."""
    look = FollowUpsLook(lambda: desk.reader, load_contracts(), desk.clock)
    desk.ledger.event("r1", "a", "b")
    desk.ledger.receipt("b", "r1", "accepted", 2)
    (found,) = look()
    assert (found.agency, found.event) == ("a", "r1")

    def severity(days: int) -> list[tuple[str, str]]:
        now = datetime.combine(found.deadline, time(12), SHANGHAI) + timedelta(days=days)
        return [(one.subject, one.weight) for one in overdue(look(), 1, now)]

    assert severity(-6) == []
    assert severity(0) == [("a", "warning")]
    assert severity(1) == [("a", "critical")]
    desk.ledger.receipt("a", "r1", "accepted", 9)
    assert severity(1) == []


def test_what_nobody_acknowledges_stays_an_alert_however_old_it_grows(desk: Desk) -> None:
    """The first look is at all months, later ones at those in which one is open; what was accepted needs none."""
    desk.ledger.event("r1", "a")
    desk.clock.at = ACT + timedelta(days=150)
    look = FollowUpsLook(lambda: desk.reader, load_contracts(), desk.clock)
    assert [one.event for one in look()] == ["r1"]
    desk.clock.at += timedelta(days=40)
    assert [one.event for one in look()] == ["r1"]
    desk.ledger.receipt("a", "r1", "accepted", 9)
    assert [look(), look()] == [[], []]


def test_each_month_is_asked_for_by_itself_and_one_that_takes_too_long_in_halves(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them once a day, what bears no possible time too; between, those in which one is open and no others."""
    asked: list[tuple[datetime, datetime | None]] = []
    ask = desk.reader.follow_ups

    def follow_ups(types: Collection[str], *, since: datetime, until: datetime | None, **more: Any) -> list[Any]:
        asked.append((since, until))
        if until is not None and until - since > timedelta(days=20) and since.year > 1970:
            raise SearchTooWideError
        return ask(types, since=since, until=until, **more)

    monkeypatch.setattr(desk.reader, "follow_ups", follow_ups)
    for name, days in (("long ago", -200), ("answered", -170), ("epoch", 0), ("new", 80)):
        desk.ledger.at = datetime(1970, 1, 1, tzinfo=UTC) if name == "epoch" else ACT + timedelta(days=days)
        desk.ledger.event(name, "a", at=ACT)
    desk.ledger.receipt("a", "answered", "accepted", 9)
    desk.clock.at = ACT + timedelta(days=120)
    look = FollowUpsLook(lambda: desk.reader, load_contracts(), desk.clock)
    every = {"long ago", "epoch", "new"}
    assert {one.event for one in look()} == every
    parts = {(since.month, (until - since).days) for since, until in asked if until is not None and since.year > 1970}
    assert parts == {(6, 30), (6, 15), (7, 31), (7, 15)}
    asked.clear()
    assert {one.event for one in look()} == every
    assert {since.month for since, until in asked if until is not None} == {1, 6}
    desk.ledger.at = ACT - timedelta(days=140)
    desk.ledger.event("put down late", "a", at=ACT)
    assert {one.event for one in look()} == every
    desk.clock.at += timedelta(days=1)
    assert {one.event for one in look()} == every | {"put down late"}


def test_a_month_is_looked_through_without_the_others(desk: Desk, database_dsn: str) -> None:
    """The database reads none of their events and routes."""
    for month in (1, 2, 3):
        desk.ledger.at = datetime(2025, month, 5, tzinfo=UTC)
        desk.ledger.event(f"e{month}", "a")
    query = (Path(reading.__file__).parent / "sql" / "follow_ups.sql").read_bytes()
    values = {"types": [REVOKED], "open": True, "since": datetime(2025, 2, 1, tzinfo=UTC)}
    with psycopg.connect(database_dsn) as connection:
        found = connection.execute(b"EXPLAIN " + query, values | {"until": datetime(2025, 3, 1, tzinfo=UTC)}).fetchall()
    plan = "\n".join(line for (line,) in found)
    assert set(re.findall(r"ledger_(?:event|route)_(\w+)", plan)) & {"202501", "202502", "202503"} == {"202502"}
