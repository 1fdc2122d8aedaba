"""The Python client: publish over Kafka, with the same checks as the gateway.

with Publisher(settings, source="urn:sc:health-commission") as publisher:
    publisher.publish("cn.gov.sc.health.medical-ad-certificate.issued", {...}, id="2025-0001").result(10)
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from producers.publishing import Identify, Prepared, Publishing
from schemas.contracts import load_contracts
from schemas.registry_client import RegistryClient
from schemas.topics import Topics
from services.runtime.clock import SystemClock
from services.runtime.errors import BufferFullError, HongyanError, InvalidError, UnavailableError
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import Placed, Sent
from services.runtime.measuring import Collector, CollectorRegistry, Metric
from services.runtime.metrics import CLIENT_BUFFERED, CLIENT_EVENTS
from services.runtime.settings import Settings
from services.runtime.tracing import Tracer, current, untraced

__all__ = ["BufferFullError", "HongyanError", "InvalidError", "Publisher", "UnavailableError", "UndeliveredError"]

MAX_BUFFERED = 10_000
MAX_BLOCK_S = 30.0


def _random_id(_key: str, _happened: datetime) -> str:
    """Return an id that no other event has."""
    return str(uuid.uuid4())


class Publisher:
    """Publishes events of one source. Give an ``id`` of your own, so that sending again is recognised.

    One publisher serves all threads of a process. At most ``max_buffered`` events wait for their acknowledgement: the
    next one waits for room, at most ``max_block_s`` seconds, so a Kafka that is away costs time and never memory.
    """

    def __init__(
        self,
        settings: Settings,
        source: str,
        *,
        bulk: bool = False,
        max_buffered: int = MAX_BUFFERED,
        max_block_s: float = MAX_BLOCK_S,
        metrics: CollectorRegistry | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """Connect. ``bulk`` gathers larger batches: more events a second, each a few milliseconds later.

        ``metrics`` gets ``hongyan_client_events_total`` by outcome, and ``hongyan_client_buffered_events``. An event is
        under the span that the program is in, if it uses OpenTelemetry; ``tracer`` records spans of publishing itself.
        """
        self.source = source
        tracer = tracer or untraced(settings.tracing)
        self._traces = tracer.exports
        registry = RegistryClient(settings.registry.url, settings.registry.timeout_s)
        topics = Topics(settings.kafka.topic_prefix)
        clock = SystemClock()
        self._publishing = Publishing(
            load_contracts(), registry, settings.registry.url, topics, settings.gateway, clock, tracer
        )
        self._buffer = Buffer(max_buffered, max_block_s)
        self._untold = Untold()
        if metrics is not None:
            metrics.register(self._buffer)
        self._producer = connect(settings.kafka).producer(client_id=f"publisher-{source}"[:200], bulk=bulk)

    def prepare(self, event_type: str, data: Mapping[str, Any], **attributes: str) -> Prepared:
        """Check and encode an event without sending it; raises InvalidError that names every bad field."""
        return self.prepare_as(_random_id, event_type, data, attributes)

    def prepare_as(
        self, identify: Identify, event_type: str, data: Mapping[str, Any], attributes: Mapping[str, str]
    ) -> Prepared:
        """Do the same; an event without an ``id`` gets it from its business key and time."""
        named = {"type": event_type, "source": self.source, **attributes}
        return self._publishing.prepare(named, data, identify, current())

    def publish(self, event_type: str, data: Mapping[str, Any], **attributes: str) -> Sent:
        """Send an event; it is on the log when ``.result(timeout_s)`` returns. Raises InvalidError, BufferFullError."""
        return self.send(self.prepare(event_type, data, **attributes))

    def send(self, prepared: Prepared) -> Sent:
        """Send what :meth:`prepare` returned; raises BufferFullError when there is no room in time."""
        self._buffer.enter()
        try:
            sent = self._producer.send(prepared.topic, key=prepared.key, value=prepared.value, headers=prepared.headers)
        except BaseException as error:
            self._buffer.leave(None, error if isinstance(error, Exception) else None)
            raise
        delivery = Delivery(sent, self._buffer, self._untold)
        if self._traces:
            sent.then(lambda placed, _: self._publishing.published(prepared) if placed is not None else None)
        sent.then(delivery.ended)
        return delivery

    def flush(self, timeout_s: float = 30.0) -> None:
        """Wait until everything sent is acknowledged or has failed; raises UnavailableError at the time limit."""
        self._producer.flush(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for what is under way, unless the block failed; then close.

        Raises UndeliveredError when an event was not taken and nobody asked: no ``result`` and no ``then`` has told.
        """
        try:
            if kind is None:
                self.flush()
                self._untold.tell()
        finally:
            self._producer.close()


class UndeliveredError(UnavailableError):
    """Events were not taken by Kafka; send them again with the same ids."""


class Untold:
    """How many events failed without anybody having heard of it, and why the first one did."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._first: Exception | None = None

    def add(self, error: Exception | None) -> None:
        """Count a failure."""
        with self._lock:
            self._count += 1
            self._first = self._first or error

    def take(self) -> None:
        """Take one back: it was told after all."""
        with self._lock:
            self._count -= 1

    def tell(self) -> None:
        """Raise UndeliveredError when there are any."""
        if self._count:
            detail = f"{self._count} 个事件没有写入 Kafka，请以同一 id 重发 (not taken; send again with the same ids)"
            raise UndeliveredError(f"{detail}: {self._first}") from self._first


class Delivery:
    """The outcome of one event (a ``Sent`` of the Kafka port), which knows whether its failure was told."""

    def __init__(self, sent: Sent, buffer: Buffer, untold: Untold) -> None:
        self._sent = sent
        self._buffer = buffer
        self._untold = untold
        self._lock = threading.Lock()
        self._told = self._counted = False

    def result(self, timeout_s: float) -> Placed:
        """Wait for Kafka's acknowledgement; raises UnavailableError or RecordTooLargeError."""
        try:
            return self._sent.result(timeout_s)
        except HongyanError:
            self._tell()
            raise

    def then(self, on_done: Callable[[Placed | None, Exception | None], None]) -> None:
        """Call back once with the place or the error, from the client's own thread."""
        self._tell()
        self._sent.then(on_done)

    def ended(self, placed: Placed | None, error: Exception | None) -> None:
        """Give its place in the buffer back, and note a failure that nobody has heard of."""
        self._buffer.leave(placed, error)
        if placed is not None:
            return
        with self._lock:
            if not self._told:
                self._counted = True
                self._untold.add(error)

    def _tell(self) -> None:
        with self._lock:
            self._told = True
            if self._counted:
                self._counted = False
                self._untold.take()


class Buffer(Collector):
    """How many events are under way, at most so many; and how they ended."""

    def __init__(self, size: int, max_block_s: float) -> None:
        self._size = size
        self._max_block_s = max_block_s
        self._room = threading.Semaphore(size)
        self._lock = threading.Lock()
        self._entered = self._published = self._failed = 0

    def enter(self) -> None:
        """Take a place, and wait for one if need be; raises BufferFullError."""
        if not self._room.acquire(blocking=False) and not self._room.acquire(timeout=self._max_block_s):
            raise BufferFullError(f"{self._size} 个事件等待 Kafka 确认已超过 {self._max_block_s:.0f} 秒 (send later)")
        with self._lock:
            self._entered += 1

    def leave(self, placed: Placed | None, _error: Exception | None) -> None:
        """Give the place back, and count how the event ended."""
        with self._lock:
            if placed is not None:
                self._published += 1
            else:
                self._failed += 1
        self._room.release()

    def collect(self) -> Iterable[Metric]:
        """Return the counts."""
        with self._lock:
            entered, published, failed = self._entered, self._published, self._failed
        ended = CLIENT_EVENTS.family()
        ended.add_metric(["published"], published)
        ended.add_metric(["failed"], failed)
        yield ended
        waiting = CLIENT_BUFFERED.family()
        waiting.add_metric([], entered - published - failed)
        yield waiting
