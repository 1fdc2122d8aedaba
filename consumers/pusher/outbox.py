"""Records on their way from the event loop to Kafka: at once where nothing is waited for, else by the Kafka thread."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog

from services.runtime.errors import RecordTooLargeError, UnavailableError
from services.runtime.kafka.port import Placed, Producer

RETRY_S = 1.0
UNREADY_S = 5.0
"""For how long a topic's metadata may be awaited before it is told."""

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
    in_order: bool = False
    """Whether the next of its key waits until this one is on the log: of these the last one counts."""


_Item = tuple[Outgoing, Callable[[], None]]


@dataclass(slots=True)
class _Queue:
    """What waits for one topic; after trouble it is tried again only then."""

    items: deque[_Item] = field(default_factory=deque)
    retry_at: float = 0.0
    unready_since: float | None = None
    troubled: bool = False
    told: bool = False
    """Whether somebody was told of trouble and not yet of its end, by this process or one before it."""


class Outbox:
    """A queue for each topic that loses nothing: a record stays until Kafka has acknowledged it.

    A topic that can't be written to keeps its own records waiting and no others. ``put`` is called in the event loop,
    ``attach`` and ``flush`` in the Kafka thread; ``call_in_loop`` carries callbacks back.
    """

    def __init__(
        self, call_in_loop: Callable[[Callable[[], None]], object], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._queues: dict[str, _Queue] = {}
        self._call_in_loop = call_in_loop
        self._acknowledged: deque[Callable[[], None]] = deque()
        self._calling = False
        self._monotonic = monotonic
        self._on_trouble: Callable[[str, str | None], None] = lambda topic, why: None
        self._producer: Producer | None = None
        # What is in order, by topic and key: the first is on its way, the others wait for it.
        self._lanes: dict[tuple[str, bytes | None], deque[_Item]] = {}
        self._lanes_lock = threading.Lock()
        # Whether the producer has taken anything since there was trouble last.
        self._took = False

    def __len__(self) -> int:
        waiting = sum(len(queue.items) for queue in list(self._queues.values()))
        with self._lanes_lock:
            return waiting + sum(len(lane) - 1 for lane in self._lanes.values())

    def due(self) -> bool:
        """Tell whether something waits that may be written now."""
        now = self._monotonic()
        return any(queue.items and queue.retry_at <= now for queue in list(self._queues.values()))

    def watch(self, on_trouble: Callable[[str, str | None], None]) -> None:
        """Have this called once in the event loop when a topic can't be written to, with why, and once it can, None."""
        self._on_trouble = on_trouble

    def recall(self, topics: Iterable[str]) -> None:
        """Take it that somebody was told of these: the next record that is written is the end of it."""
        for topic in topics:
            self._queue(topic).told = True

    def attach(self, producer: Producer | None) -> None:
        """Have records sent by this producer from now on; by none, they wait."""
        self._producer = producer
        for queue in list(self._queues.values()):
            queue.retry_at = 0.0

    def put(self, outgoing: Outgoing, on_acknowledged: Callable[[], None]) -> None:
        """Send a record, or queue it; the callback runs in the event loop once it is on the log."""
        item = (outgoing, on_acknowledged)
        if outgoing.in_order and not self._is_first(item):
            return
        producer, queue = self._producer, self._queue(outgoing.topic)
        if producer is None or queue.items or not producer.ready(outgoing.topic):
            queue.items.append(item)
            return
        try:
            self._send(producer, item)
        except UnavailableError:
            queue.items.append(item)
        except RecordTooLargeError as error:
            self._shorten(item, error)

    def flush(self) -> None:
        """Send what waits now and may be sent without waiting.

        Raises UnavailableError, with everything unsent still waiting, when the producer has taken nothing at all since
        the last trouble: then the trouble is the producer's.
        """
        producer = self._producer
        if producer is None:
            return
        trouble = None
        for topic, queue in list(self._queues.items()):
            if queue.items and queue.retry_at <= self._monotonic() and self._ready(producer, topic, queue):
                try:
                    self._flush(producer, queue)
                except UnavailableError as error:
                    trouble = error
                    self._put_off(topic, error)
        if trouble is not None:
            took, self._took = self._took, False
            if not took:
                raise trouble

    def _flush(self, producer: Producer, queue: _Queue) -> None:
        for _ in range(len(queue.items)):
            item = queue.items.popleft()
            try:
                self._send(producer, item)
            except UnavailableError:
                queue.items.appendleft(item)
                raise
            except RecordTooLargeError as error:
                self._shorten(item, error)

    def _ready(self, producer: Producer, topic: str, queue: _Queue) -> bool:
        if producer.ready(topic):
            queue.unready_since = None
            return True
        now = self._monotonic()
        queue.unready_since = queue.unready_since if queue.unready_since is not None else now
        if now - queue.unready_since >= UNREADY_S:
            self._put_off(
                topic, UnavailableError("主题不存在或无权写入 (there is no such topic, or no right to write)")
            )
        return False

    def _send(self, producer: Producer, item: _Item) -> None:
        outgoing, on_acknowledged = item

        def done(placed: Placed | None, error: Exception | None) -> None:
            if placed is not None:
                self._written(self._queue(outgoing.topic), outgoing.topic)
                self._let_next(outgoing)
                self._acknowledge(on_acknowledged)
            elif isinstance(error, RecordTooLargeError):
                self._shorten(item, error)
            else:
                self._put_off(outgoing.topic, error)
                self._queue(outgoing.topic).items.append(item)

        sent = producer.send(outgoing.topic, key=outgoing.key, value=outgoing.value, headers=outgoing.headers)
        self._took = True
        sent.then(done)

    def _is_first(self, item: _Item) -> bool:
        with self._lanes_lock:
            lane = self._lanes.setdefault((item[0].topic, item[0].key), deque())
            lane.append(item)
            return len(lane) == 1

    def _let_next(self, written: Outgoing) -> None:
        """Let the next go of those that are in order, now that this one is on the log."""
        if not written.in_order:
            return
        with self._lanes_lock:
            lane = self._lanes[written.topic, written.key]
            lane.popleft()
            if lane:
                self._queue(written.topic).items.append(lane[0])
            else:
                del self._lanes[written.topic, written.key]

    def _acknowledge(self, on_acknowledged: Callable[[], None]) -> None:
        """Call back with all that Kafka acknowledges until then: waking the loop for each would cost more than it."""
        self._acknowledged.append(on_acknowledged)
        if not self._calling:
            self._calling = True
            self._call_in_loop(self._call_back)

    def _call_back(self) -> None:
        self._calling = False
        try:
            while self._acknowledged:
                self._acknowledged.popleft()()
        finally:
            # One that raised keeps none of the others from being called.
            if self._acknowledged and not self._calling:
                self._calling = True
                self._call_in_loop(self._call_back)

    def _shorten(self, item: _Item, error: RecordTooLargeError) -> None:
        outgoing, on_acknowledged = item
        self._log(outgoing.topic, error)
        if outgoing.short is None:
            self._tell(outgoing.topic, error)
        self._queue(outgoing.topic).items.append((outgoing.short or outgoing, on_acknowledged))

    def _put_off(self, topic: str, error: Exception | None) -> None:
        self._queue(topic).retry_at = self._monotonic() + RETRY_S
        self._log(topic, error)
        self._tell(topic, error)

    def _tell(self, topic: str, error: Exception | None) -> None:
        """Tell what keeps a topic's records from being written, once until one is."""
        queue, why = self._queue(topic), str(error)
        if not queue.told:
            queue.told = True
            self._call_in_loop(lambda: self._on_trouble(topic, why))

    def _written(self, queue: _Queue, topic: str) -> None:
        queue.troubled = False
        if queue.told:
            queue.told = False
            self._call_in_loop(lambda: self._on_trouble(topic, None))

    def _log(self, topic: str, error: Exception | None) -> None:
        """Log what keeps a topic's records from being written, once until one is."""
        if not self._queue(topic).troubled:
            self._queue(topic).troubled = True
            log.error("record_not_written", topic=topic, error=str(error))

    def _queue(self, topic: str) -> _Queue:
        return self._queues.setdefault(topic, _Queue())
