"""The one reader of all feeds' ends, on a Kafka in memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from consumers.feeds.entry import Entry
from consumers.feeds.reader import Opening, TailReader
from schemas.topics import Topics
from services.runtime.clock import SystemClock
from services.runtime.errors import RegistryUnavailableError
from services.runtime.kafka.port import Record
from tests.conditions import eventually
from tests.fakes.kafka import FakeKafka

TOPICS = Topics()


def test_a_feed_that_waits_for_a_schema_holds_up_no_other_and_goes_on_where_it_was() -> None:
    """Its event in an unknown schema waits with all that follow; the other's come, and nobody is told of an outage."""
    kafka, stop, known = FakeKafka(), threading.Event(), threading.Event()
    kafka.admin().ensure_topics(spec for agency in ("one", "two") for spec in TOPICS.agency_specs(agency))
    got: dict[str, list[bytes]] = {"one": [], "two": []}

    def render(record: Record) -> Entry:
        if record.value == b"new" and not known.is_set():
            raise RegistryUnavailableError
        return Entry(record.offset, {}, record.value or b"", record)

    def arrived(found: Mapping[Opening, Sequence[Entry]]) -> None:
        for opening, entries in found.items():
            got[opening.agency].extend(entry.body for entry in entries)

    reader = TailReader(kafka, TOPICS, render, SystemClock(), arrived)
    one, two = Opening("one", 0, 0), Opening("two", 1, 0)
    reader.want([one, two])
    thread = threading.Thread(target=reader.run, args=(stop,))
    thread.start()
    producer = kafka.producer()
    for value in (b"old", b"new", b"old"):
        producer.send(TOPICS.feed("one"), key=b"k", value=value)
    for _ in range(3):
        producer.send(TOPICS.feed("two"), key=b"k", value=b"old")
        so_far = len(got["two"])
        eventually(lambda so_far=so_far: len(got["two"]) > so_far, 10)  # type: ignore[misc]
    assert got["one"] == [b"old"]
    assert reader.working
    reader.want([one])
    known.set()
    eventually(lambda: got["one"] == [b"old", b"new", b"old"], 10)
    stop.set()
    thread.join(10)
