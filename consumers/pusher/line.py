"""One agency's line: its window, its breaker and the attempts under way. Everything runs in one event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import orjson
import structlog

from consumers.pusher.message import Message
from services.delivery.breaker import Breaker
from services.delivery.outcome import Delivered, Gone, Later, Outcome, Refused
from services.delivery.window import Window
from services.runtime.clock import Clock
from services.runtime.kafka.port import Committed, Partition, Record

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where an agency's events go now, or why they wait (``held``: suspended by a decision)."""

    agency: str
    sink: str
    secrets: Sequence[str]
    held: str | None = None


@dataclass(slots=True)
class Delivery:
    """One admitted event on its way."""

    record: Record
    attempts: int = 0
    first_at: datetime | None = None
    message: Message | None = None
    not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class Ended:
    """A delivery that ended, to be put on record before the cursor passes it."""

    agency: str
    delivery: Delivery
    outcome: Delivered | Refused
    at: datetime


class Office(Protocol):
    """What a line needs of the pusher around it."""

    def build(self, delivery: Delivery) -> Message | Refused | Later:
        """Build the message; Refused when the record is no event, Later when its schema can't be had now."""
        ...

    async def send(self, receiver: Receiver, delivery: Delivery, message: Message) -> Outcome:
        """Make one attempt."""
        ...

    def record(self, ended: Ended, on_recorded: Callable[[], None]) -> None:
        """Put the end on record (receipt, and parked event); calls back in the event loop once Kafka has it."""
        ...

    def gone(self, agency: str, reason: str) -> None:
        """Ask for the agency to be suspended."""
        ...


@dataclass(slots=True)
class Line:
    """Delivers one feed partition in order per key."""

    partition: Partition
    receiver: Receiver
    office: Office
    window: Window
    breaker: Breaker
    clock: Clock
    concurrency: int
    waiting: deque[Record] = field(default_factory=deque)
    closed: bool = False
    winding_down: bool = False
    _later: dict[int, Delivery] = field(default_factory=dict)
    _heads: dict[int, Delivery] = field(default_factory=dict)
    _tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    _timer: asyncio.TimerHandle | None = None
    _recording: int = 0
    _gone: str | None = None
    _note: str | None = None

    def take(self, records: Sequence[Record]) -> None:
        """Take in what was polled, in order."""
        self.waiting.extend(records)
        self.pump()

    def wants_more(self) -> bool:
        """Tell whether the partition should be read on."""
        return not self.waiting and self.window.room() > 0

    def set_receiver(self, receiver: Receiver) -> None:
        """Use another sink or secret from the next attempt on, or hold and reopen the line by decision."""
        if receiver != self.receiver:
            self.receiver = receiver
            self._gone = None
            self.pump()

    def committed(self, cursor: int) -> None:
        """Note a commit, which makes room."""
        self.window.commit(cursor)
        self.pump()

    def to_commit(self) -> Committed:
        """Return the cursor, with the note that says whether and why the line is held."""
        return Committed(self.window.cursor(), self.note())

    def note(self) -> str:
        """Return since when and why the line is held, as JSON; empty while it flows."""
        why = self.receiver.held or self._gone or self.breaker.why
        if why is None:
            self._note = None
            return ""
        since = self.breaker.held_since or self.clock.now()
        if self._note is None or orjson.loads(self._note)["why"] != why:
            self._note = orjson.dumps({"held_since": since.isoformat(), "why": why[:500]}).decode()
        return self._note

    def busy(self) -> bool:
        """Tell whether an attempt is under way, or its end not yet on record."""
        return bool(self._tasks) or self._recording > 0

    def pump(self) -> None:
        """Admit what fits, and start what may be sent."""
        if self.closed or self.winding_down:
            return
        while self.waiting and self.window.room() > 0:
            record = self.waiting.popleft()
            is_head = self.window.admit(record.offset, record.key or b"")
            (self._heads if is_head else self._later)[record.offset] = Delivery(record)
        if not self._heads or self.receiver.held or self._gone:
            return
        if self.breaker.held:
            self._probe()
        else:
            self._start_due()

    def _probe(self) -> None:
        """Send the oldest event alone, when its time has come."""
        if not self._tasks and self._due(self.breaker.probe_at):
            self._start(min(self._heads))

    def _start_due(self) -> None:
        now = self.clock.monotonic()
        due = sorted(offset for offset, delivery in self._heads.items() if delivery.not_before <= now)
        for offset in due[: max(0, self.concurrency - len(self._tasks))]:
            self._start(offset)
        if len(self._tasks) < self.concurrency and self._heads:
            self._due(min(delivery.not_before for delivery in self._heads.values()))

    def _due(self, at: float) -> bool:
        """Tell whether a monotonic time has come; if not, pump again then."""
        delay = at - self.clock.monotonic()
        if delay <= 0:
            return True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay, self.pump)
        return False

    def _start(self, offset: int) -> None:
        delivery = self._heads.pop(offset)
        task = asyncio.get_running_loop().create_task(self._attempt(offset, delivery))
        self._tasks[offset] = task
        task.add_done_callback(self._attempt_ended)

    @staticmethod
    def _attempt_ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("attempt_crashed", error=repr(error), exc_info=error)

    async def _attempt(self, offset: int, delivery: Delivery) -> None:
        outcome = await self._outcome(delivery)
        del self._tasks[offset]
        if self.closed:
            return
        match outcome:
            case Later():
                self._heads[offset] = delivery
                self._failed(delivery, outcome)
            case Gone():
                self._heads[offset] = delivery
                self._gone = outcome.reason
                self.office.gone(self.receiver.agency, outcome.reason)
            case Delivered() | Refused():
                if self.breaker.succeeded():
                    log.info("line_reopened", agency=self.receiver.agency)
                self._recording += 1
                ended = Ended(self.receiver.agency, delivery, outcome, self.clock.now())
                self.office.record(ended, lambda: self._recorded(offset))
        self.pump()

    async def _outcome(self, delivery: Delivery) -> Outcome:
        delivery.first_at = delivery.first_at or self.clock.now()
        if delivery.message is None:
            built = self.office.build(delivery)
            if not isinstance(built, Message):
                return built
            delivery.message = built
        delivery.attempts += 1
        return await self.office.send(self.receiver, delivery, delivery.message)

    def _failed(self, delivery: Delivery, later: Later) -> None:
        was_held = self.breaker.held
        now = self.clock.monotonic()
        delivery.not_before = now + self.breaker.failed(later.reason, later.not_before_s, now, self.clock.now())
        if self.breaker.held and not was_held:
            log.warning("line_held", agency=self.receiver.agency, why=later.reason)

    def _recorded(self, offset: int) -> None:
        """Let the cursor pass an event whose end is on record, and its key's next event go."""
        self._recording -= 1
        if self.closed:
            return
        following = self.window.end(offset)
        if following is not None:
            self._heads[following] = self._later.pop(following)
        self.pump()

    def close(self) -> None:
        """Stop at once: what is under way is given up, and another process will do it again under the same id."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks.values():
            task.cancel()
        self.waiting.clear()
