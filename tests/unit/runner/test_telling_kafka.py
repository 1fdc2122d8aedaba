"""Kafka learns how far a table is, for whoever looks at lag."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from consumers.runner import rows
from consumers.runner.rows import RowConsumer
from schemas.topics import Topics, TopicSpec
from services.runtime.kafka.port import Committed, Partition, Record
from services.runtime.positions import Moves, PartitionKey
from tests.conditions import eventually
from tests.fakes.kafka import FakeKafka

PLACE = Partition("t", 0)


class Table:
    """Rows and positions, in memory."""

    def __init__(self, position: int) -> None:
        self.held: dict[PartitionKey, int] = {("t", 0): position}

    def positions(self) -> dict[PartitionKey, int]:
        """Return them."""
        return dict(self.held)

    def begin(self, partition: PartitionKey, offset: int) -> None:
        """Make a partition known."""
        self.held.setdefault(partition, offset)

    def store(self, rows: Sequence[bytes], moves: Moves) -> int:
        """Count the rows."""
        self.held.update({partition: following for partition, (_, following) in moves.items()})
        return len(rows)

    def close(self) -> None:
        """Nothing is open."""


def test_a_commit_that_failed_after_the_rows_were_stored_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though no record comes: lag that is none would be told for ever."""
    monkeypatch.setattr(rows, "CHECK_S", 0.0)
    kafka, topics, stop = FakeKafka(), Topics(), threading.Event()
    kafka.admin().ensure_topics([TopicSpec("t", 1)])
    producer = kafka.producer()
    for number in range(5):
        producer.send("t", key=b"k", value=b"%d" % number, partition=0)
    group = topics.group("table")
    kafka.consumer(group).commit({PLACE: Committed(3)})
    told: list[int] = []
    table = Table(5)

    def project(record: Record) -> bytes:
        return record.value or b""

    def on_check() -> None:
        told.append(kafka.groups[group].committed[PLACE].offset)

    consumer = RowConsumer("table", kafka, topics, ["t"], table, project, lambda _n, _m: None, "one", on_check)
    running = threading.Thread(target=consumer.run, args=(stop,))
    running.start()
    try:
        eventually(lambda: told and told[-1] == 5, 10, "told")
    finally:
        stop.set()
        running.join(10)
    assert table.held == {("t", 0): 5}
