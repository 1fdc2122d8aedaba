"""Asks now and then whether Kafka answers: a process with nothing to do would not notice that it is dead."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime

from services.runtime.clock import Clock
from services.runtime.kafka.port import Kafka
from services.runtime.lifecycle import outlast
from services.runtime.probes import Health

NO_ANSWER = "Kafka 没有应答 (Kafka does not answer)"


@dataclass(frozen=True, slots=True)
class Answered:
    """When Kafka answered last: by the clock that never goes back, and by the wall's."""

    monotonic_s: float
    at: datetime


class Contact:
    """Keeps when Kafka answered last: it asks four times in ``silent_s``, after which Kafka is said to be away."""

    def __init__(self, kafka: Kafka, clock: Clock, silent_s: float) -> None:
        self._kafka = kafka
        self._clock = clock
        self._silent_s = silent_s
        self._answered = Answered(clock.monotonic(), clock.now())

    def start(self, stop: threading.Event) -> None:
        """Ask until ``stop``, in the background."""
        ask = threading.Thread(target=outlast, args=("contact", lambda: self._session(stop), stop), name="contact")
        ask.daemon = True
        ask.start()

    def health(self, found: Health) -> Health:
        """Return a process's health, which is bad while Kafka does not answer, with since when."""
        answered = self._answered
        if self._clock.monotonic() - answered.monotonic_s < self._silent_s:
            return found
        away = {"kafka_away_since": answered.at.isoformat(), "kafka_away_why": NO_ANSWER}
        return Health(False, {**found.detail, **away})

    def _session(self, stop: threading.Event) -> None:
        admin = self._kafka.admin()
        try:
            while not stop.is_set():
                admin.cluster_id()
                self._answered = Answered(self._clock.monotonic(), self._clock.now())
                stop.wait(self._silent_s / 4)
        finally:
            admin.close()
