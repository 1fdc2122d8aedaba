"""What the Kafka clients of this process do, counted where they are and told when the metrics page is asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol
from weakref import WeakSet

from services.runtime.measuring import Collector, Metric
from services.runtime.metrics import (
    KAFKA_ASSIGNED,
    KAFKA_CLIENTS,
    KAFKA_CONSUMED,
    KAFKA_FAILED,
    KAFKA_POLLED,
    KAFKA_PRODUCED,
)

Kind = Literal["consumer", "producer"]


@dataclass(slots=True)
class Tally:
    """What the clients of one name have done since the process began, those that are closed by now included."""

    records: int = 0
    at: float | None = None
    """When one last polled with success."""

    def polled(self, records: int) -> None:
        """Count a poll."""
        self.records += records
        self.at = time.time()


class Reading(Protocol):
    """A consumer that tells how many partitions it reads."""

    def reads(self) -> int:
        """Return how many, from any thread."""
        ...


class KafkaClients(Collector):
    """Every client of the process by its name. A name that comes again goes on where it was."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tallies: dict[tuple[Kind, str], Tally] = {}
        self._consumers: dict[str, WeakSet[Reading]] = {}
        self._open: WeakSet[object] = WeakSet()
        self._failed = KAFKA_FAILED.on(None)

    def consumer(self, name: str, client: Reading) -> Tally:
        """Take a consumer in."""
        with self._lock:
            self._consumers.setdefault(name, WeakSet()).add(client)
            self._open.add(client)
            return self._tallies.setdefault(("consumer", name), Tally())

    def producer(self, name: str, client: object) -> Tally:
        """Take a producer in."""
        with self._lock:
            self._open.add(client)
            return self._tallies.setdefault(("producer", name), Tally())

    def closed(self, client: object) -> None:
        """Let a client go."""
        with self._lock:
            self._open.discard(client)

    def failed(self, operation: str) -> None:
        """Count an error."""
        self._failed.labels(operation).inc()

    def collect(self) -> Iterable[Metric]:
        """Return the figures of this moment."""
        with self._lock:
            tallies = dict(self._tallies)
            open_ = set(self._open)
            reading = {name: [one for one in found if one in open_] for name, found in self._consumers.items()}
        clients, assigned = KAFKA_CLIENTS.family(), KAFKA_ASSIGNED.family()
        consumers = sum(map(len, reading.values()))
        clients.add_metric(["consumer"], consumers)
        clients.add_metric(["producer"], len(open_) - consumers)
        consumed, produced, polled = KAFKA_CONSUMED.family(), KAFKA_PRODUCED.family(), KAFKA_POLLED.family()
        for (kind, name), tally in tallies.items():
            (consumed if kind == "consumer" else produced).add_metric([name], tally.records)
            # Also of one that is closed: an outage closes it, and it can't be opened again until that is over.
            if tally.at is not None:
                polled.add_metric([name], tally.at)
        for name, found in reading.items():
            assigned.add_metric([name], sum(one.reads() for one in found))
        yield from (clients, assigned, consumed, produced, polled)
        yield from self._failed.collect()


CLIENTS = KafkaClients()
"""Those of this process."""
