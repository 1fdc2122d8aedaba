"""Searches of the ledger in a real PostgreSQL: exact for every reader, page by page, and bounded when too wide."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
from psycopg_pool import ConnectionPool

from schemas.envelope import Envelope
from schemas.receipts import Outcome, Receipt
from services.ledger.reading import LedgerReader, SearchTooWideError
from services.ledger.repository import LedgerStore
from services.ledger.rows import Named, attributes_of, event_row, receipt_rows, route_rows
from services.ledger.searching import OPERATOR, Criteria, Scope
from services.portal.web.events import beginning
from services.runtime.errors import ForbiddenError
from tests.events import CORRECTED, ISSUED

pytestmark = pytest.mark.servers
FOLDER = Path(__file__).parents[2]
NOW = datetime(2026, 3, 10, 8, 30, tzinfo=UTC)
SOURCES = ("urn:health", "urn:market")
AGENCIES = ("a", "b", "c")


@dataclass(frozen=True)
class Line:
    """A record of the log."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass
class Clock:
    """A clock that stands still."""

    at: datetime = NOW

    def now(self) -> datetime:
        """Return the time."""
        return self.at

    def monotonic(self) -> float:
        """Return seconds."""
        return self.at.timestamp()


@dataclass
class Desk:
    """A ledger filled by its own projection, and who reads it."""

    dsn: str
    store: LedgerStore
    reader: LedgerReader
    pool: ConnectionPool
    put: list[dict[str, Any]] = field(default_factory=list)

    def event(self, at: datetime, to: Sequence[str], **told: Any) -> str:
        """Let an event be published at a time, and routed to agencies at once; return its id."""
        n = len(self.put)
        one = {"id": f"e-{n}", "source": SOURCES[0], "type": ISSUED, "subject": f"k-{n}", "redacted": (), **told}
        one |= {"at": at, "to": tuple(to), "offset": n, "number": told.get("number", f"N-{n}"), "secret": f"S-{n}"}
        self.put.append(one)
        stamp = int(at.timestamp() * 1000)
        envelope = Envelope(one["id"], one["source"], one["type"], one["subject"], at.isoformat())
        key = one["subject"].encode()
        event = Line("events.t", 0, n, stamp, key, b"", envelope.to_headers())
        entry = {"topic": "events.t", "partition": 0, "offset": n, "verdict": "routed", "follow_up": []}
        entry |= {name: one[name] for name in ("source", "id", "type")}
        entry |= {"agencies": {agency: ["s"] for agency in to}, "fields": dict.fromkeys(one["redacted"], "p")}
        entry |= {"logged": stamp, "at": (at + timedelta(seconds=1)).isoformat()}
        routed = Line("ledger.routed", 0, n, stamp + 5, key, orjson.dumps(entry))
        named = Named([one["number"], "ORG"], [one["secret"]])
        self._store([[event_row(event, attributes_of(event), named)], route_rows(routed)])
        return str(one["id"])

    def receipt(
        self, event: str, agency: str, outcome: Outcome, after: timedelta, reason: str | None = None, **more: str
    ) -> None:
        """Let a receipt for an event be put on the log."""
        one = next(one for one in self.put if one["id"] == event)
        at, named = one["at"] + after, (event, one["source"], one["type"], one["subject"])
        found = Receipt(
            agency, one["offset"], *named, outcome, at.isoformat(), 1, at.isoformat(), reason=reason, **more
        )  # type: ignore[arg-type]
        self._store([receipt_rows(Line("receipts", 0, 0, int(at.timestamp() * 1000), b"", found.to_bytes()))])

    def _store(self, rows: Any) -> None:
        held = self.store.positions()[("t", 0)]
        self.store.store(rows, {("t", 0): (held, held + 1)})


@pytest.fixture
def desk(database_dsn: str) -> Iterator[Desk]:
    """A ledger with nothing in it."""
    store = LedgerStore(database_dsn, "ledger")
    store.begin(("t", 0), 0)
    with ConnectionPool(database_dsn, min_size=1, max_size=2) as pool:
        yield Desk(database_dsn, store, LedgerReader(pool, Clock()), pool)
    store.close()


def pages(desk: Desk, scope: Scope, criteria: Criteria, limit: int) -> list[str]:
    """Return the ids of all pages, one after the other."""
    found: list[str] = []
    before = None
    while True:
        page = desk.reader.search(scope, criteria, limit, before)
        found += [one["event_id"] for one in page.events]
        assert len(page.events) <= limit
        assert (page.cut, page.before is None, page.note is None) in {("limit", False, False), (None, True, True)}
        if page.before is None:
            return found
        before = page.before


def meets(one: dict[str, Any], scope: Scope, criteria: Criteria) -> bool:
    """Tell by the rules, without the ledger's queries, whether a reader finds an event."""
    agencies = {name for name in (scope.agency, criteria.agency) if name is not None}
    known = {one["number"], "ORG"}
    if (
        scope.everything
        or scope.sources is not None
        or (scope.agency is not None and scope.agency not in one["redacted"])
    ):
        known.add(one["secret"])
    return (
        agencies <= set(one["to"])
        and (scope.sources is None or one["source"] in scope.sources)
        and criteria.event in {None, one["id"]}
        and criteria.subject in {None, one["subject"]}
        and criteria.source in {None, one["source"]}
        and criteria.type in {None, one["type"]}
        and (criteria.identifier is None or criteria.identifier in known)
        and (criteria.since is None or one["at"] >= criteria.since)
        and (criteria.until is None or one["at"] < criteria.until)
    )


def test_every_reader_finds_exactly_its_own_page_by_page_newest_first(desk: Desk) -> None:
    """Over years, with many at the same moment: all that meet the criteria, each once, in the order of time."""
    rng = random.Random(8)
    moments = [NOW - timedelta(days=days) for days in (0, 0.2, 0.9, 3, 8, 9, 60, 75, 400, 590, 900, 1000)]
    moments.append(datetime(1970, 1, 1, tzinfo=UTC))
    for n in range(150):
        to = rng.sample(AGENCIES, rng.randrange(4))
        told = {"source": rng.choice(SOURCES), "type": rng.choice([ISSUED, CORRECTED]), "subject": f"k-{n % 40}"}
        desk.event(rng.choice(moments), to, redacted=to[:1], **told)
    newest = [one["id"] for one in sorted(desk.put, key=lambda one: (one["at"], one["offset"]), reverse=True)]
    by_id = {one["id"]: one for one in desk.put}
    scopes = [
        OPERATOR,
        *map(Scope.of_agency, ("a", "x")),
        Scope.of_publisher([SOURCES[1]]),
        Scope.of_publisher(SOURCES),
    ]
    asked = [
        Criteria(),
        Criteria(type=CORRECTED),
        Criteria(event="e-7"),
        Criteria(subject="k-3"),
        Criteria(identifier="ORG"),
        Criteria(identifier="ORG", type=ISSUED, since=NOW - timedelta(days=75), until=NOW - timedelta(days=3)),
        Criteria(since=NOW - timedelta(days=590), until=NOW - timedelta(hours=4)),
        Criteria(since=NOW + timedelta(days=1)),
        *(Criteria(identifier=f"{kind}-{n}") for n in range(12) for kind in "NS"),
    ]
    for scope in scopes:
        more = [Criteria(source=SOURCES[1])] if scope.sources is None else [Criteria(agency="b", type=ISSUED)]
        more += [Criteria(agency="b"), Criteria(agency="b", source=SOURCES[0])] if scope is OPERATOR else []
        for criteria in [*asked, *more]:
            wanted = [name for name in newest if meets(by_id[name], scope, criteria)]
            assert pages(desk, scope, criteria, 7) == wanted, (scope, criteria)
    with pytest.raises(ForbiddenError):
        desk.reader.search(Scope.of_agency("a"), Criteria(agency="b"))


def test_an_event_is_found_by_the_beginning_of_its_number_however_it_is_written(desk: Desk) -> None:
    """With 第…号 or without, by what stands after 第, with spaces and full-width digits; by its owners alone."""
    ours = desk.event(NOW - timedelta(days=400), ["a"], number="(川)中医广[2025]第1200002-5C2172号")
    desk.event(NOW - timedelta(hours=1), ["a"], number="(川)中医广[2025]第3000001号")
    theirs = desk.event(NOW - timedelta(hours=2), ["b"], number="(渝)医广[2025]第12000029号")
    forms = {
        "1200002": [theirs, ours],
        "第1200002-5C2172号": [ours],
        "１２００００２-": [ours],
        "（川）中医广〔2025〕第 12": [ours],
        "川中医广2025 1200002": [ours],
        "中医广": None,
        "120": None,
        "0002-5C2172": [],
        "1200_02": None,
    }
    for text, found in forms.items():
        begun = beginning(text)
        assert (begun is None) == (found is None), text
        if begun is not None and found is not None:
            asked = Criteria(number=begun)
            assert [one["event_id"] for one in desk.reader.search(OPERATOR, asked).events] == found, text
            own = [one["event_id"] for one in desk.reader.search(Scope.of_agency("a"), asked).events]
            assert own == [one for one in found if one == ours], text
    assert not desk.reader.search(Scope.of_publisher([SOURCES[1]]), Criteria(number="1200002")).events


def test_an_operator_finds_nothing_by_the_beginning_of_a_guarded_number(desk: Desk) -> None:
    """What begins so may be somebody's; its owner finds it by the whole of it."""
    desk.event(NOW, ["a"])
    assert not desk.reader.search(OPERATOR, Criteria(number="S-0")).events
    assert desk.reader.search(OPERATOR, Criteria(number="N-0")).events


def test_who_was_not_given_all_fields_finds_nothing_by_the_beginning_of_a_number(desk: Desk) -> None:
    """Else it would find out a field that was kept from it, one character after the other."""
    event = desk.event(NOW, ["a", "b"], redacted=["b"], number="(川)中医广[2025]第1200002号")
    asked = Criteria(number="1200002")
    for scope, found in ((Scope.of_agency("a"), [event]), (Scope.of_agency("b"), []), (OPERATOR, [event])):
        assert [one["event_id"] for one in desk.reader.search(scope, asked).events] == found, scope
    of_b = Criteria(number="1200002", agency="b")
    for scope in (OPERATOR, Scope.of_publisher(SOURCES)):
        assert desk.reader.search(scope, of_b).events, "who may know the number finds whom it went to"


def test_receipts_of_what_was_parked_unsent_get_the_business_key_that_they_lacked(desk: Desk) -> None:
    """The migration knows it from what the agency was entitled to; of two events with one id it can't tell which."""
    event = desk.event(NOW - timedelta(hours=2), ["a"])
    for subject in ("k-x", "k-y"):
        desk.event(NOW - timedelta(hours=2), ["a"], id="twin", subject=subject)
    for one in (event, "twin"):
        desk.receipt(one, "a", "parked", timedelta(seconds=3))
    (migration,) = (FOLDER / "services/runtime/migrations").glob("*.ledger_parked_subjects.sql")
    with psycopg.connect(desk.dsn, autocommit=True) as connection:
        connection.execute("UPDATE ledger_receipt SET subject = NULL")
        connection.execute(migration.read_bytes())
        held = connection.execute("SELECT event_id, subject FROM ledger_receipt ORDER BY event_id").fetchall()
    assert held == [(event, "k-0"), ("twin", None)]
    assert [one["parked"] for one in desk.reader.search(OPERATOR, Criteria(event=event)).events] == [1]


def test_what_a_reader_is_told_of_an_event_is_its_own_part(desk: Desk) -> None:
    """An agency of itself alone; an operator of all, but not the agencies' words; the publisher everything."""
    event = desk.event(NOW - timedelta(hours=2), ["a", "b", "c"])
    desk.receipt(event, "a", "delivered", timedelta(seconds=2))
    desk.receipt(event, "a", "rejected", timedelta(minutes=5), "张某不符")
    desk.receipt(event, "b", "parked", timedelta(seconds=3), "HTTP 422", words="联系人 张某")
    desk.event(NOW - timedelta(hours=1), [])

    (listed, *_) = desk.reader.search(Scope.of_publisher(SOURCES), Criteria(event=event)).events
    counted = ("verdict", "entitled", "delivered", "rejected", "accepted", "parked")
    assert [listed[name] for name in counted] == ["routed", 3, 1, 1, 0, 1]
    (own,) = desk.reader.search(Scope.of_agency("b"), Criteria()).events
    assert [own[name] for name in counted] == ["routed", 1, 0, 0, 0, 1]

    def words(scope: Scope) -> dict[str, list[str | None]]:
        (told,) = desk.reader.timeline(scope, event)
        assert {one["agency"] for one in told["moments"]} - {None} <= {one["agency"] for one in told["agencies"]}
        return {part["agency"]: [said["reason"] for said in part["receipts"]] for part in told["agencies"]}

    assert words(Scope.of_publisher(SOURCES)) == {"a": [None, "张某不符"], "b": ["HTTP 422: 联系人 张某"], "c": []}
    assert words(Scope.administrator()) == {"a": [None, "张某不符"], "b": ["HTTP 422"], "c": []}
    assert words(Scope.of_agency("b")) == {"b": ["HTTP 422: 联系人 张某"]}
    assert words(OPERATOR) == {"a": [None, None], "b": ["HTTP 422"], "c": []}
    assert words(Scope.of_agency("c")) == {"c": []}
    assert desk.reader.timeline(Scope.of_agency("x"), event) == []
    assert desk.reader.timeline(Scope.of_publisher([SOURCES[1]]), event) == []


def test_an_agencys_newest_word_is_what_it_said(desk: Desk) -> None:
    """It may take its rejection back: each word is told in its turn, and what was said twice in a row once."""
    event = desk.event(NOW - timedelta(hours=2), ["a"])
    said: Sequence[tuple[Outcome, int]] = [("accepted", 5), ("rejected", 6), ("accepted", 7), ("accepted", 7)]
    desk.receipt(event, "a", "delivered", timedelta(seconds=2))
    for outcome, minutes in said:
        desk.receipt(event, "a", outcome, timedelta(minutes=minutes))
    desk.receipt(event, "a", "delivered", timedelta(minutes=6, seconds=30))
    (listed,) = desk.reader.search(OPERATOR, Criteria(event=event)).events
    assert (listed["delivered"], listed["accepted"], listed["rejected"]) == (1, 1, 0)
    (told,) = desk.reader.timeline(OPERATOR, event)
    (part,) = told["agencies"]
    assert [one["outcome"] for one in part["receipts"]] == ["delivered", "accepted", "rejected", "accepted"]
    assert (part["state"], part["acknowledged_at"]) == ("accepted", desk.put[-1]["at"] + timedelta(minutes=7))
    desk.receipt(event, "a", "rejected", timedelta(minutes=8))
    (listed,) = desk.reader.search(OPERATOR, Criteria(event=event)).events
    assert (listed["delivered"], listed["accepted"], listed["rejected"]) == (1, 0, 1)


def test_an_overview_counts_by_the_hour_what_its_reader_may_see(desk: Desk) -> None:
    """From each publisher to each agency, and what became of it; an agency sees its own flows alone."""
    for hours, to in ((0, "ab"), (1, "a"), (2, ""), (30, "ab")):
        desk.receipt(desk.event(NOW - timedelta(hours=hours), to), "a", "delivered", timedelta(minutes=1))
    desk.event(NOW, "b", source=SOURCES[1])

    seen = desk.reader.overview(OPERATOR)
    assert {(one["source"], one["agency"]): (one.get("entitled"), one.get("delivered")) for one in seen.flows} == {
        (SOURCES[0], "a"): (2, 3),
        (SOURCES[0], "b"): (1, None),
        (SOURCES[1], "b"): (1, None),
    }
    assert [(one["source"], one["published"], one["routed"]) for one in seen.publishers] == [
        (SOURCES[0], 3, 3),
        (SOURCES[1], 1, 1),
    ]
    assert [(one["published"], one.get("delivered")) for one in seen.hours] == [(1, 1), (1, 1), (2, 1)]
    assert (seen.since, seen.until) == (NOW.replace(minute=0) - timedelta(hours=23), NOW.replace(hour=9, minute=0))
    own = desk.reader.overview(Scope.of_agency("b"), hours=48)
    assert [(one["source"], one["entitled"]) for one in own.flows] == [(SOURCES[0], 2), (SOURCES[1], 1)]
    assert list(own.publishers) == []
    assert [one["source"] for one in desk.reader.overview(Scope.of_publisher([SOURCES[1]])).flows] == [SOURCES[1]]


def test_a_search_that_is_too_wide_says_how_far_it_looked_and_goes_on_from_there(desk: Desk) -> None:
    """A month that does not answer costs no more than the limit of time, and nothing that was found."""
    new = desk.event(NOW - timedelta(hours=1), ["a"])
    old = desk.event(NOW - timedelta(days=200), ["a"])
    impatient = LedgerReader(desk.pool, Clock(), search_ms=400)
    with psycopg.connect(desk.dsn) as busy:
        busy.execute("LOCK TABLE ledger_event_202508, ledger_entitlement_202508 IN ACCESS EXCLUSIVE MODE")
        for scope in (OPERATOR, Scope.of_agency("a")):
            page = impatient.search(scope, Criteria())
            assert ([one["event_id"] for one in page.events], page.cut) == ([new], "time")
            assert page.searched_since == NOW - timedelta(days=73)
            assert "只查到 2025-12-27 16:30:00 为止" in (page.note or "")
        busy.execute("LOCK TABLE ledger_event_202603 IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(SearchTooWideError, match="请加上时间范围"):
            impatient.search(OPERATOR, Criteria())
    rest = impatient.search(OPERATOR, Criteria(), before=page.before)
    assert ([one["event_id"] for one in rest.events], rest.cut) == ([old], None)
