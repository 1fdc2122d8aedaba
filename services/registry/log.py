"""The registry's log on Kafka: requests are appended, everyone folds them in order, the writer waits for its own."""

from __future__ import annotations

import threading
from typing import Any

import orjson
import structlog

from schemas.topics import Topics, TopicSpec
from services.registry.state import Refused, RegistryState, Version
from services.runtime.errors import KafkaUnavailableError, UnavailableError
from services.runtime.kafka.port import Consumer, Kafka, Partition, Producer

WAIT_S = 5.0
POLL_S = 0.2
OUTCOMES_KEPT = 1000

log = structlog.get_logger()


class RegistryLog:
    """Folds the log from a thread of its own and appends to it for the API."""

    def __init__(self, kafka: Kafka, topics: Topics) -> None:
        self.state = RegistryState()
        self._kafka = kafka
        self._partition = Partition(topics.control_schemas, 0)
        self._changed = threading.Condition()
        self._folded = 0
        self._outcomes: dict[int, Version | Refused | None] = {}
        self._producer: Producer | None = None
        self._opening = threading.Lock()
        self.ready = threading.Event()

    def append(self, entry: dict[str, Any]) -> Version | Refused | None:
        """Append a request and return the outcome of its fold; raises KafkaUnavailableError."""
        try:
            sent = self._open_producer().send(self._partition.topic, key=None, value=orjson.dumps(entry), partition=0)
            offset = sent.result(WAIT_S).offset
        except KafkaUnavailableError:
            self._drop_producer()
            raise
        self.wait_for(offset + 1)
        with self._changed:
            return self._outcomes.get(offset)

    def wait_for(self, offset: int) -> None:
        """Wait until the log is folded up to this offset; raises KafkaUnavailableError at the time limit."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._folded >= offset, WAIT_S):
                raise KafkaUnavailableError("the registry's log can't be read now")

    def catch_up(self) -> None:
        """Wait until everything that stands in the log now is folded: what is missing then is nowhere."""
        reader = self._kafka.consumer(None, client_id="registry-end")
        try:
            end = reader.end_offsets([self._partition])[self._partition]
        finally:
            reader.close()
        self.wait_for(end)

    def run(self, stop: threading.Event) -> None:
        """Fold until ``stop``; an absent Kafka is waited for."""
        while not stop.is_set():
            try:
                self._follow(stop)
            except UnavailableError as error:
                log.warning("registry_interrupted", error=str(error))
                stop.wait(POLL_S)

    def _follow(self, stop: threading.Event) -> None:
        admin = self._kafka.admin()
        admin.ensure_topics([TopicSpec(self._partition.topic, 1, retention_ms=-1)])
        admin.close()
        consumer = self._kafka.consumer(None, client_id="registry")
        try:
            consumer.assign([self._partition])
            consumer.seek(self._partition, self._folded)
            end = consumer.end_offsets([self._partition])[self._partition]
            while not stop.is_set():
                if self._folded >= end:
                    self.ready.set()
                self._fold(consumer)
        finally:
            consumer.close()

    def _fold(self, consumer: Consumer) -> None:
        for records in consumer.poll(POLL_S, 500).values():
            with self._changed:
                for record in records:
                    entry = orjson.loads(record.value or b"{}")
                    self._outcomes[record.offset] = self.state.apply(entry)
                    self._outcomes.pop(record.offset - OUTCOMES_KEPT, None)
                    self._folded = record.offset + 1
                self._changed.notify_all()

    def _open_producer(self) -> Producer:
        with self._opening:
            if self._producer is None:
                self._producer = self._kafka.producer(client_id="registry", acknowledge_timeout_s=WAIT_S)
            return self._producer

    def _drop_producer(self) -> None:
        with self._opening:
            producer, self._producer = self._producer, None
        if producer is not None:
            producer.close()
