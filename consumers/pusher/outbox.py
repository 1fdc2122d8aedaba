"""Records on their way from the event loop to Kafka: at once where nothing is waited for, else by the Kafka thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from services.runtime.errors import RecordTooLargeError, UnavailableError
from services.runtime.kafka.port import Placed, Producer

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to send."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    short: Outgoing | None = None
    """What goes instead where the topic takes no record of this size."""


class Outbox:
    """A queue that loses nothing: a record stays until Kafka has acknowledged it.

    ``put`` is called in the event loop, ``attach`` and ``flush`` in the Kafka thread; ``call_in_loop`` carries
    callbacks back.
    """

    def __init__(self, call_in_loop: Callable[[Callable[[], None]], object]) -> None:
        self._waiting: deque[tuple[Outgoing, Callable[[], None]]] = deque()
        self._call_in_loop = call_in_loop
        self._producer: Producer | None = None
        self._troubled: set[str] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def attach(self, producer: Producer | None) -> None:
        """Have records sent by this producer from now on; by none, they wait."""
        self._producer = producer

    def put(self, outgoing: Outgoing, on_acknowledged: Callable[[], None]) -> None:
        """Send a record, or queue it; the callback runs in the event loop once it is on the log."""
        item = (outgoing, on_acknowledged)
        producer = self._producer
        if producer is None or self._waiting or not producer.ready(outgoing.topic):
            self._waiting.append(item)
            return
        try:
            self._send(producer, item)
        except UnavailableError:
            self._waiting.append(item)
        except RecordTooLargeError as error:
            self._shorten(item, error)

    def flush(self) -> None:
        """Send what waits; raises UnavailableError, with everything unsent still waiting."""
        producer = self._producer
        while self._waiting and producer is not None:
            item = self._waiting.popleft()
            try:
                self._send(producer, item)
            except UnavailableError:
                self._waiting.appendleft(item)
                raise
            except RecordTooLargeError as error:
                self._shorten(item, error)

    def _send(self, producer: Producer, item: tuple[Outgoing, Callable[[], None]]) -> None:
        outgoing, on_acknowledged = item

        def done(placed: Placed | None, error: Exception | None) -> None:
            if placed is not None:
                self._troubled.discard(placed.topic)
                self._call_in_loop(on_acknowledged)
            elif isinstance(error, RecordTooLargeError):
                self._shorten(item, error)
            else:
                self._tell(outgoing.topic, error)
                self._waiting.append(item)

        sent = producer.send(outgoing.topic, key=outgoing.key, value=outgoing.value, headers=outgoing.headers)
        sent.then(done)

    def _shorten(self, item: tuple[Outgoing, Callable[[], None]], error: RecordTooLargeError) -> None:
        outgoing, on_acknowledged = item
        self._tell(outgoing.topic, error)
        self._waiting.append((outgoing.short or outgoing, on_acknowledged))

    def _tell(self, topic: str, error: Exception | None) -> None:
        """Log what keeps a topic's records from being written, once until one is."""
        if topic not in self._troubled:
            self._troubled.add(topic)
            log.error("record_not_written", topic=topic, error=str(error))
