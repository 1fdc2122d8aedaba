"""The statistics consumer: facts and offsets in one PostgreSQL transaction, so that each event counts exactly once."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack

import structlog

from consumers.statistics.metrics import StatisticsMetrics
from consumers.statistics.projection import Never, Projection
from schemas.topics import Topics
from services.runtime.kafka.port import Committed, Consumer, Kafka, Partition, Producer, Record, Sent
from services.runtime.lifecycle import outlast
from services.statistics.facts import Fact
from services.statistics.repository import FactStore, PartitionKey

POLL_S = 0.2
BATCH = 2000
ACKNOWLEDGE_S = 10.0

log = structlog.get_logger()

Found = Mapping[Partition, Sequence[Record]]


class Statistics:
    """Counts the events of some topics until told to stop. Positions are the table's; Kafka's are for lag alone."""

    def __init__(
        self,
        kafka: Kafka,
        topics: Topics,
        inputs: Collection[str],
        store: FactStore,
        projection: Projection,
        metrics: StatisticsMetrics,
        instance: str,
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._inputs = inputs
        self._store = store
        self._projection = projection
        self._metrics = metrics
        self._instance = instance
        self._expected: dict[Partition, int] = {}
        self._reassigned = False
        self.working = False

    def run(self, stop: threading.Event) -> None:
        """Count until ``stop``; whatever is away is waited for."""
        outlast("statistics", lambda: self._session(stop), stop, on_outage=self._interrupted)
        self._store.close()

    def _interrupted(self) -> None:
        self.working = False

    def _session(self, stop: threading.Event) -> None:
        with ExitStack() as clients:
            clients.callback(self._expected.clear)
            consumer = self._kafka.consumer(
                self._topics.group("statistics"), client_id=self._instance, instance=self._instance
            )
            clients.callback(consumer.close)
            producer = self._kafka.producer(client_id=self._instance, acknowledge_timeout_s=ACKNOWLEDGE_S)
            clients.callback(producer.close)
            consumer.subscribe(self._inputs, lambda given: self._take_over(consumer, given), self._give_up)
            while not stop.is_set():
                found = self._settled(consumer, consumer.poll(POLL_S, BATCH))
                if found:
                    self._count(consumer, producer, found)

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
        beginnings = consumer.beginning_offsets(partitions)
        for partition in partitions:
            offset = held.get(_key(partition))
            if offset is None:
                offset = beginnings[partition]
                self._store.begin(_key(partition), offset)
            consumer.seek(partition, offset)
            self._expected[partition] = offset
        self._reassigned = self.working = True
        log.info("partitions_assigned", partitions=len(partitions))

    def _give_up(self, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            self._expected.pop(partition, None)

    def _count(self, consumer: Consumer, producer: Producer, found: Found) -> None:
        facts = self._facts(producer, found)
        following = {partition: records[-1].offset + 1 for partition, records in found.items()}
        moves: dict[PartitionKey, tuple[int, int]] = {
            _key(partition): (self._expected[partition], offset) for partition, offset in following.items()
        }
        stored = self._store.store(facts, moves)
        self._expected.update(following)
        self._metrics.batch_stored(stored)
        if stored.conflicts:
            log.error("facts_conflicted", count=stored.conflicts)
        consumer.commit({partition: Committed(offset) for partition, offset in following.items()})

    def _facts(self, producer: Producer, found: Found) -> list[Fact]:
        """Return the facts; what can't be counted is put aside, acknowledged before its offset is passed."""
        facts: list[Fact] = []
        put_aside: list[Sent] = []
        for records in found.values():
            for record in records:
                projected = self._projection.project(record)
                if isinstance(projected, Never):
                    put_aside.append(self._dead_letter(producer, record, projected))
                else:
                    facts.append(projected)
        for sent in put_aside:
            sent.result(ACKNOWLEDGE_S)
        self._metrics.dead_letters.inc(len(put_aside))
        return facts

    def _dead_letter(self, producer: Producer, record: Record, never: Never) -> Sent:
        headers = [
            *record.headers,
            ("hongyan-stage", b"statistics"),
            ("hongyan-reason", never.reason.encode(errors="replace")),
            ("hongyan-original-topic", record.topic.encode()),
            ("hongyan-original-partition", str(record.partition).encode()),
            ("hongyan-original-offset", str(record.offset).encode()),
        ]
        log.warning("record_deadlettered", topic=record.topic, offset=record.offset, reason=never.reason)
        return producer.send(self._topics.deadletter("statistics"), key=record.key, value=record.value, headers=headers)


def _key(partition: Partition) -> PartitionKey:
    return (partition.topic, partition.partition)
