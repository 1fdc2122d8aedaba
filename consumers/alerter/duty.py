"""Which of several alerters tells people: the one that holds the only partition of ``ops.alerts`` in their group.

The others stand by, and one of them goes on where it was when it dies. Kafka decides it and not PostgreSQL, on which
telling people does not depend. While Kafka is away whoever is on duty stays so; one that was started meanwhile, and so
can't know, tells too: twice is better than not at all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

import structlog

from schemas.topics import Topics
from services.runtime.clock import Clock
from services.runtime.kafka.port import Kafka, Partition
from services.runtime.lifecycle import outlast

POLL_S = 0.5
STOPPED_S = 8.0
"""A process that stood for so long (a suspended machine) may have been replaced: less than a membership lasts."""
HANDOVER_S = 20.0
LEAVE_S = 4.0
"""Whoever ends leaves the group, so that another one need not wait; not for an absent Kafka."""

log = structlog.get_logger()
Work = Callable[[threading.Event], None]


class Duty:
    """Has the work done while this process is the one; ``alone_after_s`` is how long it waits for an absent Kafka."""

    def __init__(self, kafka: Kafka, topics: Topics, clock: Clock, alone_after_s: float) -> None:
        self._kafka = kafka
        self._spec = topics.alerts_spec()
        self._partition = Partition(self._spec.name, 0)
        self._group = topics.group("alerter")
        self._clock = clock
        self._alone_after_s = alone_after_s
        self._began = self._ticked = clock.monotonic()
        self._reached = False
        self._ours = threading.Event()
        self._anew = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._over = threading.Event()

    @property
    def state(self) -> str:
        """Return ``on-duty``, ``standby`` where another one is, or ``asking`` where that is not known yet."""
        if not self._idle.is_set():
            return "on-duty"
        return "standby" if self._reached else "asking"

    def sure(self) -> bool:
        """Tell whether this process did not stand still just now, so that nobody else may tell meanwhile."""
        return self._clock.monotonic() - self._ticked < STOPPED_S and not self._over.is_set()

    def serve(self, work: Work, stop: threading.Event) -> None:
        """Do the work whenever it is this process's turn, until ``stop``; it must end soon once its event is set."""
        threading.Thread(target=self._tick, args=(stop,), name="duty-tick", daemon=True).start()
        following = threading.Thread(target=self._follow, args=(stop,), name="duty", daemon=True)
        following.start()
        while not stop.is_set():
            if self._ours.wait(POLL_S) or self._alone():
                self._idle.clear()
                self._over = over = threading.Event()
                log.info("duty_begun", alone=not self._ours.is_set())
                try:
                    if not stop.is_set() and (self._ours.is_set() or self._alone()):
                        work(over)
                finally:
                    self._idle.set()
                log.info("duty_ended")
        following.join(LEAVE_S)

    def _alone(self) -> bool:
        return not self._reached and self._clock.monotonic() - self._began > self._alone_after_s

    def _tick(self, stop: threading.Event) -> None:
        """Notice that the process stood still, and end the work with the process."""
        while not stop.wait(POLL_S):
            now = self._clock.monotonic()
            if now - self._ticked >= STOPPED_S:
                log.warning("duty_doubtful", stood_s=round(now - self._ticked, 1))
                self._anew.set()
                self._end()
            self._ticked = self._clock.monotonic()
        self._over.set()

    def _follow(self, stop: threading.Event) -> None:
        while not stop.is_set():
            outlast("alerter_duty", lambda: self._session(stop), stop)

    def _session(self, stop: threading.Event) -> None:
        """Be a member until ``stop``, or until it is in doubt; what breaks meanwhile leaves the duty as it is."""
        admin = self._kafka.admin()
        try:
            admin.ensure_topics([self._spec])
        finally:
            admin.close()
        self._anew.clear()
        closing = threading.Event()
        consumer = self._kafka.consumer(self._group, client_id="alerter-duty")

        def assigned(partitions: Collection[Partition]) -> None:
            consumer.pause(partitions)
            alone, self._reached = not self._reached, True
            if not alone or self._partition not in partitions:
                self._end()
            if self._partition in partitions:
                self._ours.set()

        def revoked(partitions: Collection[Partition]) -> None:
            if self._partition in partitions and not closing.is_set():
                self._end()

        try:
            consumer.subscribe([self._partition.topic], assigned, revoked)
            while not stop.is_set() and not self._anew.is_set():
                consumer.poll(POLL_S, 1)
        finally:
            closing.set()
            if stop.is_set():
                self._idle.wait(HANDOVER_S)
            consumer.close()

    def _end(self) -> None:
        """End the work and wait for it: what it has told is written before another one goes on."""
        self._ours.clear()
        self._over.set()
        if not self._idle.wait(HANDOVER_S):
            log.warning("duty_overran", waited_s=HANDOVER_S)
