"""Work that exactly one process does at a time beside a department's database, and writes to Kafka exactly once.

The database's lock chooses who works; building the producer fences whoever had the lock before. Any trouble ends the
session, and the next one begins with the same steps. What was done last is kept in Kafka itself, in the transaction of
the events, so that a session can begin with what is true.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import structlog

from schemas.topics import Topics, TopicSpec
from services.runtime.errors import ProducerLostError, UnavailableError
from services.runtime.kafka.port import Kafka, TransactionalProducer
from services.runtime.lifecycle import outlast
from services.runtime.measuring import Gauge
from services.runtime.probes import Health

SLOW_S = 5.0
"""A transaction that takes longer is one that waits for Kafka; the client itself gives up much later."""

State = Literal["starting", "standby", "working", "waiting"]
WELL: frozenset[State] = frozenset({"working", "standby"})

log = structlog.get_logger()


class Duty:
    """The duty of one process: ``what`` it does and the ``name`` that it shares with those that may take over."""

    def __init__(self, what: str, name: str, kafka: Kafka, topics: Topics, working: Gauge) -> None:
        self._what = what
        self._transactional_id = topics.transactional_id(what, name)
        self._kafka = kafka
        self._working = working
        self._state: State = "starting"
        self._trouble = ""
        self._committing_since: float | None = None

    def condition(self) -> tuple[State, str]:
        """Return what it is doing, and why it is waiting; may be asked from any thread."""
        since = self._committing_since
        if since is not None and time.monotonic() - since > SLOW_S:
            return "waiting", f"Kafka 已有 {time.monotonic() - since:.0f} 秒没有应答 (Kafka does not answer)"
        return self._state, self._trouble

    def health(self) -> Health:
        """Return the condition as a probe tells it."""
        state, trouble = self.condition()
        return Health(state in WELL, {"state": state, "trouble": trouble})

    def run(self, session: Callable[[], None], stop: threading.Event) -> None:
        """Hold sessions until ``stop``; whatever is away is waited for."""

        def attempt() -> None:
            try:
                session()
            except UnavailableError as error:
                self.enter("waiting", str(error))
                raise

        outlast(self._what, attempt, stop)

    @contextmanager
    def taken(
        self, lock: Callable[[], bool], topic: TopicSpec, poll_s: float, stop: threading.Event
    ) -> Iterator[TransactionalProducer | None]:
        """Wait for the lock, create the topic and build the producer; None when ``stop`` comes first."""
        while not lock():
            self.enter("standby")
            if stop.wait(poll_s):
                yield None
                return
        self._ensure(topic)
        # Under the lock only: building it fences whoever had the lock before, and ends what that one left open.
        producer = self._kafka.transactional_producer(self._transactional_id)
        try:
            yield producer
        finally:
            producer.close()

    def commit(self, producer: TransactionalProducer, fill: Callable[[], None]) -> None:
        """Commit what ``fill`` sends as one transaction; raises UnavailableError: then the session is over."""
        self._committing_since = time.monotonic()
        try:
            producer.begin()
            fill()
            producer.commit()
        except ProducerLostError:
            raise
        except UnavailableError:
            producer.abort()
            raise
        finally:
            self._committing_since = None

    def enter(self, state: State, trouble: str = "") -> None:
        """Say what it is doing now."""
        if state != self._state:
            log.info(f"{self._what}_changed", state=state)
        self._state, self._trouble = state, trouble
        self._working.set(state == "working")

    def _ensure(self, topic: TopicSpec) -> None:
        admin = self._kafka.admin()
        try:
            admin.ensure_topics([topic])
        finally:
            admin.close()
