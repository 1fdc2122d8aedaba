"""Reads logs for the meter: receipts as they come, what is new in feeds, and whether records stand in a short gap."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from services.runtime.errors import KafkaUnavailableError
from services.runtime.kafka.port import Consumer, Kafka, Partition, Record

POLL_S = 0.1
POLL_RECORDS = 2000
IDLE_POLLS = 20
ROUND_RECORDS = 20_000
"""So many records of all feeds together are counted in one look; the next ones in the next."""
LEAST_OF_ONE = 20
GAPS = 64
GAP_OFFSETS = 5000

Offsets = Mapping[Partition, int]
NO_ANSWER = "Kafka 没有应答 (no answer)"


class Reader:
    """One consumer that reads what it is told to, outside any group."""

    def __init__(self, kafka: Kafka, client_id: str) -> None:
        self._consumer: Consumer = kafka.consumer(None, client_id=client_id)

    def bounds(self, partitions: Collection[Partition]) -> tuple[Offsets, Offsets]:
        """Return the first and the end offset of each, all asked at once."""
        return self._consumer.beginning_offsets(partitions), self._consumer.end_offsets(partitions)

    def follow(self, partitions: Collection[Partition], since_ms: int) -> None:
        """Read on from the first records that are not older than this."""
        self._consumer.assign(partitions)
        starts, ends = self._consumer.offsets_at(partitions, since_ms), self._consumer.end_offsets(partitions)
        for partition in partitions:
            self._consumer.seek(partition, starts.get(partition, ends[partition]))

    def rest(self) -> Iterator[Record]:
        """Give what has come since the last time, up to what is the end now.

        Raises KafkaUnavailableError when nothing comes: what was not read must not count as read.
        """
        ends = self._consumer.end_offsets(self._consumer.assignment())
        idle = 0
        while any(self._consumer.position(p) < end for p, end in ends.items()):
            found = self._consumer.poll(POLL_S, POLL_RECORDS)
            idle = _idle(idle, progress=bool(found))
            for records in found.values():
                yield from records

    def new(self, starts: Offsets, ends: Offsets, take: Callable[[Partition, Record], bool]) -> dict[Partition, int]:
        """Give the records from these starts on to ``take``, until it wants no more of a partition.

        No more than a round's share of each. Returns how far each partition was read.
        """
        share = max(LEAST_OF_ONE, ROUND_RECORDS // max(1, len(starts)))
        left = dict.fromkeys(starts, share)
        reached = dict(starts)
        for partition, record in self._until(starts, ends, lambda p: left[p] <= 0):
            if left[partition] <= 0:
                continue
            reached[partition] = record.offset + 1
            left[partition] = left[partition] - 1 if take(partition, record) else 0
        whole = {p: ends[p] for p, room in left.items() if room > 0}
        return reached | whole

    def filled(self, gaps: Offsets, ends: Offsets) -> set[Partition]:
        """Return those of some short gaps between an offset and the end in which a record stands."""
        found: set[Partition] = set()
        for partition, _ in self._until(gaps, ends, lambda p: p in found):
            found.add(partition)
        return found

    def _until(
        self, starts: Offsets, ends: Offsets, enough: Callable[[Partition], bool]
    ) -> Iterator[tuple[Partition, Record]]:
        consumer = self._consumer
        consumer.assign(list(starts))
        consumer.resume(list(starts))
        for partition, start in starts.items():
            consumer.seek(partition, start)
        open_, idle = set(starts), 0
        while open_:
            found = consumer.poll(POLL_S, POLL_RECORDS)
            before = len(open_)
            for partition, records in found.items():
                yield from ((partition, record) for record in records if record.offset < ends[partition])
            positions = consumer.positions()
            done = {p for p in open_ if enough(p) or positions.get(p, -1) >= ends[p]}
            consumer.pause(done)
            open_ -= done
            idle = _idle(idle, progress=bool(found) or len(open_) < before)

    def close(self) -> None:
        """Close the client."""
        self._consumer.close()


def _idle(polls: int, *, progress: bool) -> int:
    if progress:
        return 0
    if polls >= IDLE_POLLS:
        raise KafkaUnavailableError(NO_ANSWER)
    return polls + 1
