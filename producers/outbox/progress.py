"""What a relay published last, kept in Kafka itself: written in the transaction of the events, read back at the start.

The database is marked after the commit. Whatever happens in between, the last record tells which rows it is about.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from schemas.topics import Topics
from services.runtime.kafka.port import Consumer, Kafka, Partition, TransactionalProducer

WINDOW = 1000
BATCH = 500


def write(producer: TransactionalProducer, topics: Topics, name: str, ids: Sequence[str]) -> None:
    """Add the ids of this transaction's events to it."""
    producer.send(topics.control_relay, key=name.encode(), value=orjson.dumps({"ids": ids}), partition=0)


def last_published(kafka: Kafka, topics: Topics, name: str) -> list[str]:
    """Return the ids of the last transaction that a relay of this name has committed; raises UnavailableError.

    The newest record is near the end, and compaction may lag by days: it is looked for backwards.
    """
    partition = Partition(topics.control_relay, 0)
    reader = kafka.consumer(None, client_id=f"relay-{name}-restore")
    try:
        reader.assign([partition])
        first, end = reader.beginning_offsets([partition])[partition], reader.end_offsets([partition])[partition]
        window = WINDOW
        while end > first:
            start = max(first, end - window)
            found = _newest(reader, partition, start, end, name.encode())
            if found is not None or start == first:
                return found or []
            window *= 10
        return []
    finally:
        reader.close()


def _newest(reader: Consumer, partition: Partition, start: int, end: int, key: bytes) -> list[str] | None:
    reader.seek(partition, start)
    newest: bytes | None = None
    while reader.position(partition) < end:
        for record in reader.poll(1.0, BATCH).get(partition, ()):
            if record.key == key:
                newest = record.value
    return None if newest is None else list(orjson.loads(newest)["ids"])
