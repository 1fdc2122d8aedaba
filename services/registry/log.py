"""The registry's log on Kafka: requests are appended, every instance folds them in order, the writer waits for its own.

Reads are answered from memory, so an absent Kafka costs them nothing. A write that fails, or takes longer than
``WAIT_S``, makes the log's clients anew; until that is done, further writes are refused at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Protocol

import orjson
import structlog

from schemas.topics import Topics
from services.registry.state import Outcome, RefusedError, RegistryState
from services.runtime.errors import KafkaUnavailableError, UnavailableError
from services.runtime.kafka.port import Consumer, Kafka, Partition, Producer

WAIT_S = 4.0
"""Less than a client's time-out, so that it gets our answer and not its own."""
POLL_S = 0.2
BACKOFF_S = 1.0
OUTCOMES_KEPT = 1000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Writing:
    """The clients that writes need, made by the thread that follows the log."""

    producer: Producer
    end: Consumer


class RegistryLog:
    """Folds the log in a thread of its own (``run``) and appends to it for the API."""

    def __init__(self, kafka: Kafka, topics: Topics) -> None:
        self._kafka = kafka
        self._partition = Partition(topics.control_schemas, 0)
        self._spec = next(s for s in topics.base_specs([]) if s.name == topics.control_schemas)
        self._state = RegistryState()
        self._changed = threading.Condition()
        self._folded = 0
        self._outcomes: dict[int, Outcome | RefusedError] = {}
        self._writing: Writing | None = None
        self._asking = threading.Lock()
        self._caught_up = False

    @property
    def ready(self) -> bool:
        """Tell whether the log has been read to its end once, so that reads can be answered."""
        return self._caught_up

    @property
    def writable(self) -> bool:
        """Tell whether, as far as is known, an entry can be appended now."""
        return self._writing is not None

    @property
    def offset(self) -> int:
        """Return the log's next offset to be folded."""
        return self._folded

    @contextmanager
    def reading(self) -> Iterator[RegistryState]:
        """Hold the state still while it is read; raises KafkaUnavailableError before the log was read to its end."""
        if not self._caught_up:
            raise KafkaUnavailableError("the registry's log has not been read to its end yet")
        with self._changed:
            yield self._state

    def append(self, entry: Mapping[str, object]) -> Outcome:
        """Append a request and return the outcome of its fold; raises RefusedError or KafkaUnavailableError."""
        deadline = time.monotonic() + WAIT_S
        writing = self._writing
        if writing is None:
            raise KafkaUnavailableError("the registry's log can't be written now")
        try:
            value = orjson.dumps(entry)
            sent = writing.producer.send(self._partition.topic, key=None, value=value, partition=0)
            offset = sent.result(deadline - time.monotonic()).offset
            self._wait_for(offset + 1, deadline)
        except UnavailableError:
            self._give_up(writing)
            raise
        with self._changed:
            outcome = self._outcomes.get(offset)
        if outcome is None:
            raise KafkaUnavailableError("the verdict is known no more; ask for the same again")
        if isinstance(outcome, RefusedError):
            raise outcome
        return outcome

    def catch_up(self) -> None:
        """Wait until all that stands in the log now is folded: what is missing then is nowhere.

        Raises KafkaUnavailableError: whether it is missing can't be told.
        """
        deadline = time.monotonic() + WAIT_S
        writing = self._writing
        if writing is None or not self._asking.acquire(timeout=WAIT_S):
            raise KafkaUnavailableError("the registry's log can't be read now")
        try:
            end = writing.end.end_offsets([self._partition])[self._partition]
        except UnavailableError:
            self._give_up(writing)
            raise
        finally:
            self._asking.release()
        self._wait_for(end, deadline)

    def _wait_for(self, offset: int, deadline: float) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._folded >= offset, max(0.0, deadline - time.monotonic())):
                raise KafkaUnavailableError("the registry's log can't be read now")

    def _give_up(self, writing: Writing) -> None:
        if self._writing is writing:
            self._writing = None

    def run(self, stop: threading.Event) -> None:
        """Fold until ``stop``; an absent Kafka is waited for."""
        try:
            while not stop.is_set():
                try:
                    self._follow(stop)
                except UnavailableError as error:
                    log.warning("registry_log_interrupted", error=str(error), offset=self._folded)
                    stop.wait(BACKOFF_S)
        finally:
            # Whatever ended this thread: what is not followed any more must not look current.
            self._caught_up = False
            self._writing = None

    def _follow(self, stop: threading.Event) -> None:
        with ExitStack() as clients:
            admin = self._kafka.admin()
            with _closing(admin):
                admin.ensure_topics([self._spec])
            consumer, end_reader = (self._kafka.consumer(None, client_id="registry") for _ in range(2))
            clients.enter_context(_closing(consumer))
            clients.enter_context(_closing(end_reader, self._asking))
            producer = self._kafka.producer(client_id="registry", acknowledge_timeout_s=WAIT_S)
            clients.enter_context(_closing(producer))
            end = self._begin(consumer)
            self._writing = writing = Writing(producer, end_reader)
            while not stop.is_set() and self._writing is writing:
                if self._folded >= end and not self._caught_up:
                    self._caught_up = True
                    log.info("registry_log_followed", offset=self._folded)
                self._fold(consumer)

    def _begin(self, consumer: Consumer) -> int:
        """Place the consumer where the fold stands and return the log's end; raises when the log is not whole."""
        consumer.assign([self._partition])
        first = consumer.beginning_offsets([self._partition])[self._partition]
        end = consumer.end_offsets([self._partition])[self._partition]
        if first > 0 or end < self._folded:
            # Ids come from the log's order: read with a part missing, it would give them to other schemas.
            raise KafkaUnavailableError(
                f"{self._partition.topic} is not whole: it holds {first} to {end}, and {self._folded} entries were read"
            )
        consumer.seek(self._partition, self._folded)
        return end

    def _fold(self, consumer: Consumer) -> None:
        batches = consumer.poll(POLL_S, 500).values()
        position = consumer.position(self._partition)
        with self._changed:
            for record in (record for records in batches for record in records):
                self._outcomes[record.offset] = self._state.apply(record.value)
            while len(self._outcomes) > OUTCOMES_KEPT:
                del self._outcomes[next(iter(self._outcomes))]
            self._folded = position
            self._changed.notify_all()


class _Closable(Protocol):
    def close(self) -> None: ...


@contextmanager
def _closing(client: _Closable, unused: AbstractContextManager[object] | None = None) -> Iterator[None]:
    """Close a client at the end; that it can't be closed in order is no news, since Kafka is away then."""
    try:
        yield
    finally:
        with unused or nullcontext(), suppress(UnavailableError):
            client.close()
