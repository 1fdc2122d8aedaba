"""The alerts that are open now, followed over one client that is kept: every page counts them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from schemas.topics import Topics
from services.alerting.kept import STATE, Kept
from services.portal.alerts import NEWEST, read_alert, standing
from services.runtime.alerts import Alert
from services.runtime.clock import Clock
from services.runtime.kafka.port import Consumer, Kafka, Partition
from services.runtime.lifecycle import outlast

POLL_S = 0.5
LOOK_S = 2.0
BATCH = 2000


@dataclass(frozen=True, slots=True)
class OpenNow:
    """All alerts that were open ``at`` a time."""

    alerts: Sequence[Alert]
    at: datetime


class OpenAlerts:
    """Follows the alerts. ``found`` is None until all were read once, and grows old while Kafka is away."""

    def __init__(self, kafka: Kafka, topics: Topics, clock: Clock) -> None:
        self.found: OpenNow | None = None
        self._kafka = kafka
        self._specs = [topics.alerts_spec(), topics.alerting_spec()]
        self._partitions = [Partition(topics.alerts, 0), Partition(topics.control_alerting, STATE)]
        self._clock = clock

    def run(self, stop: threading.Event) -> None:
        """Follow until ``stop``; an absent Kafka is waited for."""
        outlast("open_alerts", lambda: self._session(stop), stop)

    def _session(self, stop: threading.Event) -> None:
        admin = self._kafka.admin()
        try:
            admin.ensure_topics(self._specs)
        finally:
            admin.close()
        consumer = self._kafka.consumer(None, client_id="open-alerts")
        try:
            self._follow(consumer, stop)
        finally:
            consumer.close()

    def _follow(self, consumer: Consumer, stop: threading.Event) -> None:
        alerts, _ = self._partitions
        newest, kept = deque[Alert](maxlen=NEWEST), Kept()
        consumer.assign(self._partitions)
        firsts, ends = consumer.beginning_offsets(self._partitions), consumer.end_offsets(self._partitions)
        for partition, first in firsts.items():
            consumer.seek(partition, max(first, ends[partition] - NEWEST) if partition == alerts else first)
        look_at = self._clock.monotonic()
        while not stop.is_set():
            for partition, records in consumer.poll(POLL_S, BATCH).items():
                for record in records:
                    if partition != alerts:
                        kept.take((record.key or b"").decode(errors="replace"), record.value)
                    elif (alert := read_alert(record)) is not None:
                        newest.append(alert)
            now = self._clock.monotonic()
            if now < look_at:
                continue
            ends = consumer.end_offsets(self._partitions)
            if all(consumer.position(partition) >= end for partition, end in ends.items()):
                opened = [one for one in standing(newest, kept) if one.state == "open"]
                self.found = OpenNow(opened, self._clock.now())
                look_at = now + LOOK_S
