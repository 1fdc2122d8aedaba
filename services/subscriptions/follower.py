"""Follows the control topics, so that a change works within a second and without polling a database."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable

import structlog

from services.runtime.errors import KafkaUnavailableError, UnavailableError
from services.runtime.kafka.port import Consumer, Kafka, Partition
from services.runtime.lifecycle import outlast
from services.runtime.measuring import Collector, Metric
from services.runtime.metrics import CONTROL_OFFSET
from services.subscriptions.control import ControlView

POLL_S = 0.5
BATCH = 500

log = structlog.get_logger()


class ControlFollower(Collector):
    """Keeps a :class:`ControlView` current from a thread of its own, and tells as a metric how far it is.

    The thread alone writes the view; readers look at its dictionaries, which change by whole entries, and compare
    ``view.version`` to learn of a change. ``view.position`` tells how far the first of the topics was read.
    """

    def __init__(self, kafka: Kafka, topics: Collection[str], name: str) -> None:
        self.view = ControlView()
        self._kafka = kafka
        self._partitions = [Partition(topic, 0) for topic in topics]
        self._name = name
        self._consumer: Consumer | None = None
        self._positions: dict[Partition, int] = {}
        self._caught_up = threading.Event()

    def start(self, stop: threading.Event) -> None:
        """Follow until ``stop``, in the background."""
        threading.Thread(target=self.run, args=(stop,), name="control", daemon=True).start()

    def caught_up(self, timeout_s: float) -> bool:
        """Wait until everything that stood in the topics at the start is taken in."""
        return self._caught_up.wait(timeout_s)

    def run(self, stop: threading.Event) -> None:
        """Follow until ``stop``; an absent Kafka is waited for, and what is known stays in force meanwhile."""
        outlast("control", lambda: self._follow(stop), stop)
        self._drop()

    def collect(self) -> Iterable[Metric]:
        """Return how far each control topic is taken in."""
        found = CONTROL_OFFSET.family()
        for partition, offset in list(self._positions.items()):
            found.add_metric([partition.topic], offset)
        yield found

    def _follow(self, stop: threading.Event) -> None:
        consumer = self._connect()
        try:
            ends = consumer.end_offsets(self._partitions)
            while not stop.is_set():
                if not self._caught_up.is_set() and all(consumer.position(p) >= end for p, end in ends.items()):
                    self._caught_up.set()
                    log.info("control_caughtup", version=self.view.version)
                self._take(consumer)
        except KafkaUnavailableError:
            self._drop()
            raise

    def _connect(self) -> Consumer:
        if self._consumer is None:
            self._consumer = self._kafka.consumer(None, client_id=f"{self._name}-control")
            self._consumer.assign(self._partitions)
            for partition, offset in self._positions.items():
                self._consumer.seek(partition, offset)
        return self._consumer

    def _take(self, consumer: Consumer) -> None:
        for partition, records in consumer.poll(POLL_S if self._caught_up.is_set() else 0.05, BATCH).items():
            for record in records:
                key = (record.key or b"").decode(errors="replace")
                if partition == self._partitions[0]:
                    self.view.take(key, record.value, record.offset)
                else:
                    self.view.apply(key, record.value)
            self._positions[partition] = records[-1].offset + 1

    def _drop(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        try:
            consumer.close()
        except UnavailableError as error:
            log.debug("control_close_failed", error=str(error))
