"""The pusher: a thread that owns the Kafka clients and an event loop that delivers, with the lines between them."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import structlog

from consumers.pusher.line import Line, Office
from consumers.pusher.metrics import PusherMetrics
from consumers.pusher.outbox import Outbox
from consumers.pusher.receivers import Receivers
from consumers.runner.cursors import cursor_of
from schemas.topics import Topics
from services.delivery.breaker import Breaker
from services.delivery.retry import RetryPolicy
from services.delivery.window import Window
from services.runtime.clock import Clock
from services.runtime.errors import UnavailableError
from services.runtime.kafka.port import Committed, Consumer, Kafka, Partition, Producer, Record
from services.runtime.lifecycle import outlast
from services.runtime.settings import DeliverySettings

BUSY_POLL_S = 0.005
IDLE_POLL_S = 0.02
POLL_RECORDS = 64
LOOP_CALL_S = 10.0
WIND_DOWN_S = 3.0

log = structlog.get_logger()
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Survey:
    """The lines at one moment: cursors that are not committed yet, lines without room, whether anything is going on."""

    behind: dict[Partition, Committed]
    full: set[Partition]
    busy: bool


class Pusher:
    """Delivers the feeds that the consumer group gives this process, until told to stop.

    Lines live in the event loop; the Kafka thread reads for them, writes their receipts and commits their cursors.
    """

    def __init__(
        self,
        kafka: Kafka,
        topics: Topics,
        receivers: Receivers,
        office: Office,
        outbox: Outbox,
        settings: DeliverySettings,
        clock: Clock,
        metrics: PusherMetrics,
        loop: asyncio.AbstractEventLoop,
        instance: str,
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._receivers = receivers
        self._office = office
        self._outbox = outbox
        self._settings = settings
        self._policy = RetryPolicy(settings.retry_base_s, settings.retry_cap_s)
        self._clock = clock
        self._metrics = metrics
        self._loop = loop
        self._instance = instance
        self._lines: dict[Partition, Line] = {}
        self._committed: dict[Partition, Committed] = {}
        self._paused: set[Partition] = set()
        self._subscribed: frozenset[str] = frozenset()
        self.working = False

    def run(self, stop: threading.Event) -> None:
        """Push until ``stop``; call it in a thread of its own. Whatever is away is waited for."""
        outlast("pusher", lambda: self._session(stop), stop, on_outage=self._interrupted)

    def _interrupted(self) -> None:
        self.working = False

    def _session(self, stop: threading.Event) -> None:
        producer = self._kafka.producer(client_id=self._instance, acknowledge_timeout_s=10.0)
        try:
            consumer = self._kafka.consumer(
                self._topics.group("pusher"), client_id=self._instance, instance=self._instance
            )
            try:
                self._push_until(stop, consumer, producer)
            finally:
                consumer.close()
                self._in_loop(self._close_lines, list(self._lines))
        finally:
            producer.close()

    def _push_until(self, stop: threading.Event, consumer: Consumer, producer: Producer) -> None:
        self._subscribed = frozenset()
        seen = -1
        while not stop.is_set():
            if seen != self._receivers.version():
                seen = self._receivers.version()
                self._follow(consumer, producer)
            if not self._subscribed:
                self.working = True
                stop.wait(IDLE_POLL_S)
                continue
            survey = self._round(consumer, producer)
            found = consumer.poll(BUSY_POLL_S if survey.busy else IDLE_POLL_S, POLL_RECORDS)
            self.working = True
            if found:
                self._in_loop(self._take, found)
        self._wind_down(consumer, producer, list(self._lines))

    def _round(self, consumer: Consumer, producer: Producer) -> Survey:
        """Write what waits, commit what has ended, and read on where there is room."""
        self._outbox.flush(producer)
        survey = self._in_loop(self._survey)
        if survey.behind:
            consumer.commit(survey.behind)
            self._committed.update(survey.behind)
            self._in_loop(self._note_commits, survey.behind)
        self._set_pauses(consumer, survey.full)
        return survey

    def _survey(self) -> Survey:
        """Look at all lines, in the event loop."""
        current = {partition: line.to_commit() for partition, line in self._lines.items()}
        behind = {partition: held for partition, held in current.items() if self._committed.get(partition) != held}
        full = {partition for partition, line in self._lines.items() if not line.wants_more()}
        attempting = any(line.busy() for line in self._lines.values())
        return Survey(behind, full, attempting or bool(behind) or bool(self._outbox))

    def _follow(self, consumer: Consumer, producer: Producer) -> None:
        """Take in a change of configuration: new agencies' feeds, sinks, secrets, suspensions."""
        feeds = frozenset(self._topics.feed(agency) for agency in self._receivers.agencies())
        if feeds and feeds != self._subscribed:
            consumer.subscribe(
                feeds,
                lambda given: self._take_over(consumer, given),
                lambda lost: self._wind_down(consumer, producer, lost),
            )
            self._subscribed = feeds
        self._in_loop(self._refresh_receivers)

    def _refresh_receivers(self) -> None:
        for partition, line in self._lines.items():
            receiver = self._receivers.get(self._topics.agency_of(partition.topic))
            if receiver is not None:
                line.set_receiver(receiver)

    def _take(self, found: Mapping[Partition, Sequence[Record]]) -> None:
        for partition, records in found.items():
            if partition in self._lines:
                self._lines[partition].take(records)

    def _note_commits(self, commits: Mapping[Partition, Committed]) -> None:
        for partition, held in commits.items():
            line = self._lines.get(partition)
            if line is not None:
                line.committed(held.offset)
                self._metrics.held.labels(line.receiver.agency).set(1 if held.note else 0)

    def _set_pauses(self, consumer: Consumer, full: set[Partition]) -> None:
        """Read on where a line has room, and nowhere else: one agency's full window is nobody else's delay."""
        if full - self._paused:
            consumer.pause(full - self._paused)
        if self._paused - full:
            consumer.resume((self._paused - full) & consumer.assignment())
        self._paused = full

    def _take_over(self, consumer: Consumer, partitions: Collection[Partition]) -> None:
        held = {partition: consumer.position(partition) for partition in partitions}
        starts = held | self._moved_meanwhile(held)
        for partition, start in starts.items():
            consumer.seek(partition, start)
        self._paused.clear()
        self._in_loop(self._open_lines, starts, held)
        log.info("feeds_assigned", feeds=len(starts))

    def _moved_meanwhile(self, held: Mapping[Partition, int]) -> dict[Partition, int]:
        """Return the cursors that another channel has moved beyond what the pusher had committed."""
        agencies = {partition: self._topics.agency_of(partition.topic) for partition in held}
        asked = {p: agency for p, agency in agencies.items() if self._receivers.may_have_moved(agency)}
        if not asked:
            return {}
        admin = self._kafka.admin()
        try:
            found = {p: cursor_of(admin, self._topics, p, agency) for p, agency in asked.items()}
        finally:
            admin.close()
        return {partition: cursor for partition, cursor in found.items() if cursor > held[partition]}

    def _open_lines(self, starts: Mapping[Partition, int], held: Mapping[Partition, int]) -> None:
        for partition, start in starts.items():
            receiver = self._receivers.get(self._topics.agency_of(partition.topic))
            if receiver is None:
                continue
            breaker = Breaker(self._policy, self._settings.hold_after, random.random)
            window = Window(self._settings.window, start)
            self._committed[partition] = Committed(held[partition])
            self._lines[partition] = Line(
                partition, receiver, self._office, window, breaker, self._clock, self._settings.concurrency
            )

    def _wind_down(self, consumer: Consumer, producer: Producer, partitions: Collection[Partition]) -> None:
        """Start nothing new on these lines, let what is under way end, commit it, and close them."""
        self._in_loop(self._stop_starting, partitions)
        pause = threading.Event()
        deadline = self._clock.monotonic() + WIND_DOWN_S
        try:
            while self._round(consumer, producer).busy and self._clock.monotonic() < deadline:
                pause.wait(BUSY_POLL_S)
        except UnavailableError as error:
            # The next owner starts from the last commit: what ended since is sent again, under the same id.
            log.warning("handover_uncommitted", error=str(error))
        self._in_loop(self._close_lines, partitions)

    def _stop_starting(self, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            if partition in self._lines:
                self._lines[partition].winding_down = True

    def _close_lines(self, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            line = self._lines.pop(partition, None)
            self._committed.pop(partition, None)
            if line is not None:
                line.close()

    def _in_loop(self, function: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """Run a function in the event loop, where the lines live, and return its result."""
        done: Future[R] = Future()

        def run() -> None:
            try:
                done.set_result(function(*arguments, **named))
            except BaseException as error:  # noqa: BLE001  (carried to the thread that asked)
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result(LOOP_CALL_S)
