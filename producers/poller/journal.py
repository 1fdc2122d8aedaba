"""What a poller keeps in Kafka, in the transaction of the events: one compacted topic for each poller.

Partition 0 has the state of every row that was told of, and how far the poller has come; partition 1 the rows that were
rejected. Everything else, the local store included, is a view of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from schemas.topics import Topics
from services.runtime.errors import KafkaUnavailableError
from services.runtime.kafka.port import Kafka, Partition, Record, Sent, TransactionalProducer

ROWS, REJECTS = 0, 1
_ROW = b"row/"
_PROGRESS = b"progress"
_BATCH = 2000
_POLL_S = 0.5
_IDLE_POLLS = 60

Json = dict[str, Any]


@dataclass(slots=True)
class Changes:
    """What one transaction changes: states of rows, rejects (None: mended or gone), progress; by the row's key."""

    states: dict[str, Json] = field(default_factory=dict)
    rejects: dict[str, Json | None] = field(default_factory=dict)
    progress: Json | None = None

    def __bool__(self) -> bool:
        return bool(self.states or self.rejects or self.progress)


class Journal:
    """Writes and reads the topic of one poller."""

    def __init__(self, kafka: Kafka, topics: Topics, name: str) -> None:
        self._kafka = kafka
        self._name = name
        self.spec = topics.poller_spec(name)

    def origin(self) -> str:
        """Return which cluster's topic it is: a view of it must not outlive it."""
        admin = self._kafka.admin()
        try:
            return f"{admin.cluster_id()}/{self.spec.name}"
        finally:
            admin.close()

    def write(self, producer: TransactionalProducer, changes: Changes) -> dict[int, Sent]:
        """Add the changes to an open transaction, and return the last record of each partition."""
        last: dict[int, Sent] = {}
        for key, state in changes.states.items():
            last[ROWS] = self._send(producer, ROWS, _ROW + key.encode(), state)
        if changes.progress is not None:
            last[ROWS] = self._send(producer, ROWS, _PROGRESS, changes.progress)
        for key, record in changes.rejects.items():
            last[REJECTS] = self._send(producer, REJECTS, key.encode(), record)
        return last

    def _send(self, producer: TransactionalProducer, partition: int, key: bytes, value: Json | None) -> Sent:
        content = None if value is None else orjson.dumps(value)
        return producer.send(self.spec.name, key=key, value=content, partition=partition)

    def read(self, starts: Mapping[int, int]) -> Iterator[tuple[Changes, dict[int, int]]]:
        """Give the changes from these offsets to the end, some at a time, each with the next offsets."""
        places = [Partition(self.spec.name, number) for number in starts]
        reader = self._kafka.consumer(None, client_id=f"poller-{self._name}-restore")
        try:
            reader.assign(places)
            ends = reader.end_offsets(places)
            for place, first in reader.beginning_offsets(places).items():
                # A start behind the end is of a topic that is no more: all of this one is read.
                start = starts[place.partition]
                reader.seek(place, max(first, start) if start <= ends[place] else first)
            idle = 0
            while any(reader.position(place) < ends[place] for place in places):
                found = reader.poll(_POLL_S, _BATCH)
                idle = 0 if found else idle + 1
                if idle > _IDLE_POLLS:
                    raise KafkaUnavailableError(f"{self.spec.name}: Kafka 没有应答 (no answer)")
                yield _folded(found), {place.partition: reader.position(place) for place in places}
        finally:
            reader.close()

    def rejects(self) -> dict[str, Json]:
        """Return the rows that are rejected now, by key."""
        found: dict[str, Json] = {}
        for changes, _ in self.read({REJECTS: 0}):
            for key, record in changes.rejects.items():
                if record is None:
                    found.pop(key, None)
                else:
                    found[key] = record
        return found


def _folded(found: Mapping[Partition, Sequence[Record]]) -> Changes:
    changes = Changes()
    for place, records in found.items():
        for record in records:
            key, content = record.key or b"", record.value
            if place.partition == REJECTS:
                changes.rejects[key.decode()] = None if content is None else orjson.loads(content)
            elif content is not None and key == _PROGRESS:
                changes.progress = orjson.loads(content)
            elif content is not None:
                changes.states[key.removeprefix(_ROW).decode()] = orjson.loads(content)
    return changes
