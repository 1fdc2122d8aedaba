"""What the ledger keeps, and that it works on its own under constant load."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import orjson
import psycopg
import pytest
from prometheus_client import CollectorRegistry
from psycopg_pool import ConnectionPool

from consumers.ledger.engine import Ledger, LedgerMetrics, retention_of
from schemas.codec import Codec
from schemas.contracts import load_contracts
from schemas.receipts import Receipt
from schemas.registry_client import RegistryClient
from schemas.topics import EVENT_PARTITIONS
from services.ledger.flowing import FlowReader
from services.ledger.repository import LedgerStore
from services.ledger.rows import Row, route_rows
from services.runtime.database import dsn_of
from services.runtime.kafka.port import Kafka, Partition
from services.runtime.settings import Settings
from tests.conditions import eventually
from tests.conftest import OwnTopics
from tests.events import ISSUED, TestEvents
from tests.fakes.kafka import FakeRecord

pytestmark = pytest.mark.servers
CLOSED = "cn.gov.sc.statistics.month.closed"
TABLES = ("event", "route", "entitlement", "receipt")


@dataclass
class Calendar:
    """A clock that a test sets forward."""

    ahead: timedelta = field(default_factory=timedelta)

    def now(self) -> datetime:
        """Return the time."""
        return datetime.now(UTC) + self.ahead

    def monotonic(self) -> float:
        """Return seconds."""
        return self.now().timestamp()


@contextmanager
def publishing_without_pause(events: TestEvents, topic: str) -> Iterator[None]:
    """Put records on one partition all the while, so that nobody who reads it is ever idle."""
    stop = threading.Event()

    def publish() -> None:
        while not stop.wait(0.02):
            events.publish_raw(topic, b"no event", headers={"ce_id": "noise"})

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


def test_each_event_stays_as_long_as_its_type_and_idle_partitions_are_no_lag(
    kafka: Kafka, own: OwnTopics, installation: Settings, events: TestEvents
) -> None:
    """By itself and under load: after three years the certificate goes, after ten the closed month goes too.

    Their publishers' clocks stand at 2010, which shortens nothing.
    """
    contracts, clock, dsn = load_contracts(), Calendar(), dsn_of(installation.database)
    kept = {kind: contracts.types[kind].catalogue.retention_days for kind in (ISSUED, CLOSED)}
    assert kept[ISSUED] + 365 < kept[CLOSED]
    router = kafka.transactional_producer(own.transactional_id("router", "test"))
    producer = kafka.producer()
    for kind in (ISSUED, CLOSED):
        event = events.prepare(kind, kind)
        (place,) = events.publish(event, clock=datetime(2010, 5, 5, tzinfo=UTC))
        entry = {"topic": event.topic, "partition": place.partition, "offset": place.offset, "verdict": "routed"}
        entry |= {
            "source": event.attributes["source"],
            "id": kind,
            "type": kind,
            "agencies": {"a": []},
            "follow_up": [],
        }
        router.begin()
        router.send(own.ledger_routed, key=event.key, value=orjson.dumps(entry), partition=place.partition)
        router.commit()
        named = (kind, event.attributes["source"], kind, event.attributes["subject"])
        receipt = Receipt("a", 0, *named, "delivered", datetime.now(UTC).isoformat())
        producer.send(own.receipts, key=b"a", value=receipt.to_bytes()).result(15)
    router.close()
    producer.close()

    store, stop = LedgerStore(dsn, own.group("ledger")), threading.Event()
    codec = Codec(RegistryClient(installation.registry.url))
    ledger = Ledger(kafka, own, contracts, store, codec, LedgerMetrics(CollectorRegistry()), "test", clock)
    thread = threading.Thread(target=ledger.run, args=(stop,))
    thread.start()

    def held() -> set[str] | None:
        """Return the types in the ledger; None while its tables don't hold the same."""
        query = "SELECT type FROM ledger_{} WHERE type IS NOT NULL"
        with psycopg.connect(dsn) as connection:
            found = [{kind for (kind,) in connection.execute(query.format(name).encode())} for name in TABLES]
        return found[0] if all(one == found[0] for one in found) else None

    admin = kafka.admin()
    routed = [Partition(own.ledger_routed, n) for n in range(EVENT_PARTITIONS)]

    def passed() -> bool:
        ends, at = admin.log_ends(routed), admin.group_offsets(own.group("ledger"))
        return all(at[one].offset == end for one, end in ends.items() if end)

    try:
        with publishing_without_pause(events, own.events("window")):
            eventually(lambda: held() == {ISSUED, CLOSED}, 30, "all of them are in the ledger")
            other = LedgerStore(dsn, own.group("ledger"))
            assert not other.trim(datetime.now(UTC), retention_of(contracts))
            other.close()
            assert held() == {ISSUED, CLOSED}
            eventually(passed, 15, "the ends of transactions are passed under load")
            clock.ahead = timedelta(days=kept[ISSUED] + 62)
            eventually(lambda: held() == {CLOSED}, 15, "the certificate alone is let go")
            clock.ahead = timedelta(days=kept[CLOSED] + 62)
            eventually(lambda: held() == set(), 15, "both are let go")
    finally:
        stop.set()
        thread.join(20)
        admin.close()


def test_a_month_that_another_process_let_go_is_made_anew(database_dsn: str) -> None:
    """Who remembers it writes on, what came meanwhile moves into it after a restart, and goes with it."""
    may, place, stores = datetime(2010, 5, 5, tzinfo=UTC), ("events.t", 0), []
    retention = {ISSUED: timedelta(days=1095)}

    def store() -> LedgerStore:
        stores.append(LedgerStore(database_dsn, "ledger"))
        return stores[-1]

    def put(writer: LedgerStore, offset: int) -> None:
        values: tuple[object, ...] = (
            may,
            *place,
            offset,
            "urn:s",
            f"e-{offset}",
            ISSUED,
            "k",
            None,
            None,
            None,
            None,
            [],
            [],
            None,
        )
        writer.store([[Row("event", may, values)]], {place: (offset, offset + 1)})

    def held(table: str) -> set[str]:
        with psycopg.connect(database_dsn) as connection:
            return {name for (name,) in connection.execute(f"SELECT event_id FROM {table}".encode())}

    first = store()
    first.begin(place, 0)
    put(first, 0)
    assert store().trim(datetime.now(UTC), retention)
    put(first, 1)
    assert held("ledger_event_rest") == {"e-1"}
    put(store(), 2)
    assert (held("ledger_event_201005"), held("ledger_event_rest")) == ({"e-1", "e-2"}, set())
    assert store().trim(datetime.now(UTC), retention)
    put(first, 3)
    assert store().trim(datetime.now(UTC), retention)
    assert held("ledger_event") == set()
    for one in stores:
        one.close()


def test_a_publisher_knows_its_receivers_as_long_as_the_ledger_is_kept(database_dsn: str) -> None:
    """The counts of hours go after weeks; who has been given an event of its is known for all of three years."""
    at, place = datetime(2024, 3, 5, 7, 30, tzinfo=UTC), ("ledger.routed", 0)
    kept, later = timedelta(days=1095), timedelta(days=1)
    store, reader = LedgerStore(database_dsn, "receivers"), ConnectionPool(database_dsn, min_size=1, open=True)
    store.begin(place, 0)
    for n, agency in enumerate(("a", "b", "a")):
        entry = {"topic": "events.t", "partition": 0, "offset": n, "source": "urn:receivers", "id": f"e-{n}"}
        entry |= {"type": ISSUED, "subject": "s", "verdict": "routed", "agencies": {agency: ["s-1"]}, "follow_up": []}
        when = at + n * later
        stamp = int(when.timestamp() * 1000)
        record = FakeRecord("ledger.routed", 0, n, stamp, b"s", orjson.dumps(entry), [])
        store.store([route_rows(record)], {place: (n, n + 1)})

    def receivers(now: datetime) -> frozenset[str]:
        store.trim(now, {ISSUED: kept})
        return FlowReader(reader).receivers("urn:receivers", ["a", "b", "c"])

    try:
        assert receivers(at + timedelta(days=100)) == {"a", "b"}
        assert receivers(at + kept) == {"a", "b"}
        assert receivers(at + kept + timedelta(days=1, hours=1)) == {"a"}
        assert receivers(at + kept + timedelta(days=3)) == set()
    finally:
        store.close()
        reader.close()
