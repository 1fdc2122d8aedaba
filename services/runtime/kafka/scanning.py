"""Reads a topic from one place to what is its end now: for people's questions, not for work that goes on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from services.runtime.errors import KafkaUnavailableError
from services.runtime.kafka.port import Kafka, Partition, Record

POLL_S = 0.5
BATCH = 2000
IDLE_POLLS = 20


def scan(
    kafka: Kafka,
    partitions: Collection[Partition],
    *,
    start: int | None = None,
    since_ms: int | None = None,
    newest: int | None = None,
    client_id: str = "scan",
    most: int = BATCH,
    sized: Callable[[int], None] = lambda _: None,
) -> Iterator[Record]:
    """Yield the records of these partitions, each in order, up to the end that they have now.

    From ``start`` on, or from the first that is not older than ``since_ms``, else from the first kept; of each
    partition the ``newest`` so many offsets at most. Raises UnavailableError, also when there is no answer for ten
    seconds. ``most`` are taken at a time; ``sized`` is told how many offsets there are to read.
    """
    consumer = kafka.consumer(None, client_id=client_id)
    try:
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        firsts = consumer.beginning_offsets(partitions)
        later = consumer.offsets_at(partitions, since_ms) if since_ms is not None else {}
        begin: dict[Partition, int] = {}
        for partition in partitions:
            first, end = firsts[partition], ends[partition]
            wanted = later.get(partition, end) if since_ms is not None else first if start is None else start
            wanted = wanted if newest is None else max(wanted, end - newest)
            begin[partition] = min(max(wanted, first), end)
            consumer.seek(partition, begin[partition])
        sized(sum(ends[partition] - at for partition, at in begin.items()))
        idle = 0
        while any(consumer.position(partition) < ends[partition] for partition in partitions):
            found = consumer.poll(POLL_S, most)
            idle = 0 if found else idle + 1
            if idle > IDLE_POLLS:
                raise KafkaUnavailableError("Kafka 没有应答 (no answer)")
            for partition, records in found.items():
                yield from (record for record in records if record.offset < ends[partition])
    finally:
        consumer.close()
