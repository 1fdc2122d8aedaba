"""A consumer whose rows and offsets commit in one PostgreSQL transaction, so that each record works exactly once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import structlog

from schemas.topics import Topics
from services.quarantine.aside import Aside, aside, pointer
from services.runtime.errors import RecordTooLargeError, UnavailableError
from services.runtime.kafka.port import Committed, Consumer, HeaderList, Kafka, Partition, Producer, Record, Sent
from services.runtime.lifecycle import outlast
from services.runtime.positions import Moves, PartitionKey, PositionLostError

POLL_S = 0.2
BATCH = 2000
CHECK_S = 2.0
ACKNOWLEDGE_S = 10.0

log = structlog.get_logger()

Found = Mapping[Partition, Sequence[Record]]
Row = TypeVar("Row")
Stored = TypeVar("Stored")
Row_contra = TypeVar("Row_contra", contravariant=True)
Stored_co = TypeVar("Stored_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Never:
    """Why a record can never become a row."""

    reason: str


class RowStore(Protocol[Row_contra, Stored_co]):
    """Keeps rows and positions in one database (see :class:`services.runtime.positions.PositionStore`)."""

    def positions(self) -> dict[PartitionKey, int]:
        """Return the next offset of every partition that has one."""
        ...

    def begin(self, partition: PartitionKey, offset: int) -> None:
        """Make a partition known at this offset, unless it is already."""
        ...

    def store(self, rows: Sequence[Row_contra], moves: Moves) -> Stored_co:
        """Store rows and move positions in one transaction; raises PositionLostError or DatabaseUnavailableError."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class RowConsumer(Generic[Row, Stored]):
    """Turns the records of some topics into rows until told to stop.

    Positions are the table's; Kafka's are for lag alone. ``project`` may raise a retriable error: the record is then
    read again later; None is a record that is no row on purpose. What can never be a row goes to the dead letters of
    ``name`` before its offset is passed.
    """

    def __init__(
        self,
        name: str,
        kafka: Kafka,
        topics: Topics,
        inputs: Collection[str],
        store: RowStore[Row, Stored],
        project: Callable[[Record], Row | Never | None],
        on_stored: Callable[[Stored, int], None],
        instance: str,
        on_check: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_stored`` is told what each batch came to, and how many records were put aside.

        ``on_check`` is called every two seconds or so, and may work for some seconds.
        """
        self._name = name
        self._kafka = kafka
        self._topics = topics
        self._inputs = inputs
        self._store = store
        self._project = project
        self._on_stored = on_stored
        self._instance = instance
        self._on_check = on_check
        self._expected: dict[Partition, int] = {}
        self._told: dict[Partition, int] = {}
        """How far Kafka knows each partition to be taken in."""
        self._reassigned = False
        self.working = False

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop``; whatever is away is waited for."""
        outlast(self._name, lambda: self._session(stop), stop, on_outage=self._interrupted)
        self._store.close()

    def _interrupted(self) -> None:
        self.working = False

    def _session(self, stop: threading.Event) -> None:
        with ExitStack() as clients:
            clients.callback(self._expected.clear)
            clients.callback(self._told.clear)
            group = self._topics.group(self._name)
            consumer = self._kafka.consumer(group, client_id=self._instance, instance=self._instance, bulk=True)
            clients.callback(consumer.close)
            producer = self._kafka.producer(client_id=self._instance, acknowledge_timeout_s=ACKNOWLEDGE_S)
            clients.callback(producer.close)
            consumer.subscribe(self._inputs, lambda given: self._take_over(consumer, given), self._give_up)
            checked_at = time.monotonic()
            while not stop.is_set():
                found = self._settled(consumer, consumer.poll(POLL_S, BATCH))
                if found:
                    self._take(consumer, producer, found)
                # Under load too: a partition where nothing comes lies beside others where much does.
                if not self._reassigned and time.monotonic() - checked_at > CHECK_S:
                    self._check_positions()
                    self._tell(consumer)
                    self._on_check()
                    checked_at = time.monotonic()

    def _check_positions(self) -> None:
        """Notice where nothing comes that the table was emptied to be built anew; raises PositionLostError."""
        held = self._store.positions()
        lost = [partition for partition, at in self._expected.items() if held.get(_key(partition)) != at]
        if lost:
            raise PositionLostError(f"{len(lost)} positions are not where they were left")

    def _tell(self, consumer: Consumer) -> None:
        """Commit what Kafka does not know: the ends of transactions, which are nobody's lag, and what it was not told.

        A commit that failed after the rows were stored is made up for; a table that was emptied is behind again.
        """
        read = consumer.positions()
        untold = {p: at for p, at in read.items() if p in self._expected and at != self._told.get(p)}
        # It only tells others how far we are: while partitions are dealt anew it is told later.
        with suppress(UnavailableError):
            if untold:
                self._commit(consumer, untold)

    def _commit(self, consumer: Consumer, offsets: Mapping[Partition, int]) -> None:
        consumer.commit({partition: Committed(offset) for partition, offset in offsets.items()})
        self._told.update(offsets)

    def _settled(self, consumer: Consumer, found: Found) -> Found:
        """Return what was polled, but nothing that may have been read before the table's positions were taken up."""
        if not self._reassigned:
            return {partition: records for partition, records in found.items() if partition in self._expected}
        self._reassigned = False
        for partition in consumer.assignment() & self._expected.keys():
            consumer.seek(partition, self._expected[partition])
        return {}

    def _take_over(self, consumer: Consumer, partitions: Collection[Partition]) -> None:
        """Start where the table says, whatever Kafka has committed; a new partition from its beginning."""
        held = self._store.positions()
        beginnings, told = consumer.beginning_offsets(partitions), consumer.committed(partitions)
        for partition in partitions:
            offset = held.get(_key(partition))
            if offset is None:
                offset = beginnings[partition]
                self._store.begin(_key(partition), offset)
            consumer.seek(partition, offset)
            self._expected[partition] = offset
            self._told[partition] = told[partition].offset if partition in told else offset
        self._reassigned = self.working = True
        log.info("partitions_assigned", partitions=len(partitions))

    def _give_up(self, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            self._expected.pop(partition, None)

    def _take(self, consumer: Consumer, producer: Producer, found: Found) -> None:
        rows, aside = self._rows(producer, found)
        following = {partition: records[-1].offset + 1 for partition, records in found.items()}
        moves = {_key(partition): (self._expected[partition], offset) for partition, offset in following.items()}
        stored = self._store.store(rows, moves)
        self._expected.update(following)
        self._on_stored(stored, aside)
        self._commit(consumer, following)

    def _rows(self, producer: Producer, found: Found) -> tuple[list[Row], int]:
        """Return the rows; what can't be one is put aside, acknowledged before its offset is passed."""
        rows: list[Row] = []
        put_aside: list[tuple[Record, Never, Sent | None]] = []
        for records in found.values():
            for record in records:
                projected = self._project(record)
                if isinstance(projected, Never):
                    log.warning(
                        "record_deadlettered", topic=record.topic, offset=record.offset, reason=projected.reason
                    )
                    put_aside.append((record, projected, self._tried(producer, record, projected)))
                elif projected is not None:
                    rows.append(projected)
        for record, never, sent in put_aside:
            self._await(producer, record, never, sent)
        return rows, len(put_aside)

    def _tried(self, producer: Producer, record: Record, never: Never) -> Sent | None:
        try:
            return self._send(producer, aside(record, self._said(never)))
        except RecordTooLargeError:
            return None

    def _await(self, producer: Producer, record: Record, never: Never, sent: Sent | None) -> None:
        """Wait for the acknowledgement; where the topic takes less than we think, a pointer goes instead."""
        try:
            if sent is not None:
                sent.result(ACKNOWLEDGE_S)
                return
        except RecordTooLargeError as error:
            log.warning("deadletter_refused", topic=record.topic, offset=record.offset, error=str(error))
        self._send(producer, pointer(record, self._said(never))).result(ACKNOWLEDGE_S)

    def _said(self, never: Never) -> HeaderList:
        reason = never.reason.encode(errors="replace")
        return [("hongyan-stage", self._name.encode()), ("hongyan-reason", reason)]

    def _send(self, producer: Producer, one: Aside) -> Sent:
        return producer.send(self._topics.deadletter(self._name), key=one.key, value=one.value, headers=one.headers)


def _key(partition: Partition) -> PartitionKey:
    return (partition.topic, partition.partition)
