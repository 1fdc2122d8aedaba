"""What the table sink does before it fills anything, with everything in memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import orjson
import pytest

from consumers.runner.rows import Never
from consumers.table_sink.change import Change
from consumers.table_sink.engine import TableSink
from consumers.table_sink.target import Refusal, Stand, Target
from schemas.codec import Codec
from schemas.topics import Topics
from services.runtime.alerts import Alert, AlertKind
from services.runtime.clock import SystemClock
from services.runtime.kafka.port import Committed, Partition, Record
from services.subscriptions.control import ControlView
from tests.conditions import eventually
from tests.fakes.kafka import FakeKafka
from tests.fakes.schemas import MemorySchemas

TOPICS = Topics("t.")
FEED = Partition(TOPICS.feed("a"), 0)
GROUP = TOPICS.agency_group("a")


class Tables(Target):
    """An agency's tables in memory: their cursor, and which events they were given."""

    def __init__(self, held: int, making: str = "") -> None:
        self.held, self.making = held, making
        self.given: list[int] = []

    def cursor(self) -> Stand | None:
        """Return the cursor."""
        return Stand(self.held, self.making)

    def begin(self, offset: int, making: str) -> None:
        """Stand here."""
        self.held, self.making = offset, making

    def apply(self, changes: Sequence[tuple[Record, Change | Never]], expected: int, following: int) -> list[Refusal]:
        """Take events, where the cursor is as expected."""
        assert self.held == expected
        self.given += [record.offset for record, _ in changes]
        self.held = following
        return []

    def parked(self, records: Sequence[Record]) -> list[Refusal]:
        """Nothing is put aside."""
        return []

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
def kafka() -> FakeKafka:
    """Return a feed of six events, of which the log keeps the last two."""
    found = FakeKafka()
    found.admin().ensure_topics([*TOPICS.agency_specs("a"), *TOPICS.base_specs([])])
    for n in range(6):
        found.producer().send(FEED.topic, key=b"k", value=b"%d" % n, partition=0).result(1)
    found.firsts[FEED] = 4
    return found


def run(kafka: FakeKafka, tables: Tables, end: int) -> None:
    """Fill an agency's tables until their cursor is there."""
    view, schemas, stop = ControlView(), MemorySchemas(), threading.Event()
    view.apply("agency/a", orjson.dumps({"id": "a", "name": "a", "division": "510000", "sink": "x"}))
    view.apply("access/a", orjson.dumps({"agency": "a", "channel": "table", "keys": [], "version": 1}))
    sink = TableSink(kafka, TOPICS, view, "a", tables, Codec(schemas), schemas, [], SystemClock())
    thread = threading.Thread(target=sink.run, args=(stop,))
    thread.start()
    eventually(lambda: (tables.held, kafka.admin().group_offsets(GROUP)[FEED].offset) == (end, end), 10)
    stop.set()
    thread.join(10)


def test_a_restored_database_gets_again_what_it_has_lost(kafka: FakeKafka) -> None:
    """Its cursor is below where the tables have been: by Kafka's alone, what lies between would be passed over."""
    tables = Tables(4)
    kafka.admin().set_group_offsets(GROUP, {FEED: Committed(4)})
    run(kafka, tables, 6)
    tables.held, tables.given = 5, [4]
    run(kafka, tables, 6)
    assert tables.given == [4, 5]


def test_what_retention_takes_below_the_tables_is_told_with_both_offsets_once(kafka: FakeKafka) -> None:
    """The tables go on at the first event that is kept, and a restart tells nothing again."""
    tables = Tables(2)
    kafka.admin().set_group_offsets(GROUP, {FEED: Committed(2)})
    run(kafka, tables, 6)
    kafka.producer().send(FEED.topic, key=b"k", value=b"6", partition=0).result(1)
    run(kafka, tables, 7)
    assert tables.given == [4, 5, 6]
    assert tables.making == kafka.topic_ids[FEED.topic], "of which log the cursor is was not noted before"
    alerts = [Alert.from_bytes(record.value) for record in kafka.logs[Partition(TOPICS.alerts, 0)]]
    assert [one.labels for one in alerts if one.kind == AlertKind.FEED_GAP] == [{"from": "2", "to": "4"}]
