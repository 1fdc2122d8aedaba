"""One agency's line: its window, its breaker and the attempts under way. Everything runs in one event loop."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import structlog

from consumers.pusher.note import WHY_CHARS, Note, note_of, sink_mark
from schemas.envelope import message_id_of
from services.delivery.breaker import Breaker
from services.delivery.cursors import left_note
from services.delivery.message import Format, Message
from services.delivery.outcome import RETRY_AFTER_CAP_S, Delivered, Gone, Later, Outcome, Refused
from services.delivery.pace import Pace
from services.delivery.receiver import Receiver
from services.delivery.window import Window
from services.runtime.clock import Clock
from services.runtime.kafka.port import Committed, Partition, Record
from services.subscriptions.stopping import grants_of, stopped

LEAVE_S = 15.0
"""How long a line that leaves waits for what is under way, before another channel takes the feed over."""

BEHIND_MS = 60_000
"""From which age on an event's delivery counts as catching up."""

log = structlog.get_logger()


@dataclass(slots=True)
class Delivery:
    """One admitted event on its way."""

    record: Record
    attempts: int = 0
    first_at: datetime | None = None
    message: Message | None = None
    form: Format | None = None
    """In which format the message was built: one that is wanted no more is built anew."""
    not_before: float = 0.0
    alone: bool = False
    """It was in a batch that was refused: it goes by itself now, so that the refusal is known to be its own."""
    unready: bool = False
    """It can't be built yet: what it needs is on its way, and the receiver has nothing to do with it."""


@dataclass(frozen=True, slots=True)
class Unready:
    """The message can't be built before this future is done; what it results in is told by building again."""

    until: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class Ended:
    """A delivery that ended, to be put on record before the cursor passes it."""

    agency: str
    delivery: Delivery
    outcome: Delivered | Refused
    at: datetime


class Office(Protocol):
    """What a line needs of the pusher around it."""

    def build(self, delivery: Delivery, form: Format) -> Message | Refused | Unready:
        """Build the message; Refused when the record is no event, Unready while its schema isn't at hand."""
        ...

    async def send(self, receiver: Receiver, deliveries: Sequence[Delivery]) -> Outcome:
        """Make one attempt with these built events: one, or as many as a batch of this receiver may hold."""
        ...

    def record(self, ended: Ended, on_recorded: Callable[[], None]) -> None:
        """Put the end on record (receipt, and parked event); calls back in the event loop once Kafka has it."""
        ...

    def gone(self, agency: str, reason: str) -> None:
        """Ask for the agency to be suspended, and tell."""
        ...

    def held(self, agency: str, why: str) -> None:
        """Tell that the line is held."""
        ...

    def flows(self, agency: str, *, was_gone: bool) -> None:
        """Tell that the line flows again, after it was held or the receiver was gone."""
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
    waiting: deque[Record] = field(default_factory=deque)
    changed: set[Partition] = field(default_factory=set)
    """Where the line enters itself when its cursor, its note, its room or its being busy may have changed."""
    closed: bool = False
    winding_down: bool = False
    _later: dict[int, Delivery] = field(default_factory=dict)
    _heads: dict[int, Delivery] = field(default_factory=dict)
    _tasks: dict[asyncio.Task[None], Sequence[Delivery]] = field(default_factory=dict)
    _ending: set[int] = field(default_factory=set)
    _pace: Pace = field(default_factory=Pace)
    _next: int = 0
    _timer: asyncio.TimerHandle | None = None
    _pumping: bool = False
    _gone: str | None = None
    _leaving_until: float | None = None
    _highest: int = -1
    troubled: bool = False
    """Whether somebody was told that the line is held: by us, or by the process that had it before."""
    was_gone: bool = False
    astray: str | None = None  # why nothing is read before somebody has decided from where on
    waits: str | None = None  # why nothing is read before the agency's own clients have left
    _told: bool = False
    _note: Note | None = None
    _left_at: datetime | None = None

    def seed(self, note: str) -> None:
        """Take up what the last owner noted beside the cursor: a held line stays held, since the same moment."""
        known = note_of(note)
        if known is None:
            return
        self._note, self.troubled, self.was_gone = known, not known.quiet, known.gone
        self._told = not (known.quiet or known.decided or known.gone)
        if known.gone and not known.decided:
            # The suspension that was asked for is not in force: nothing goes before it is, or another address is named.
            if known.sink in {None, sink_mark(self.receiver.sink)}:
                self._gone_since(Gone(known.why))
        elif not (known.decided or known.astray or known.waits):
            self.breaker.held_since, self.breaker.why = known.held_since, known.why
        if known.rest_until is not None and known.sink == sink_mark(self.receiver.sink):
            left_s = min((known.rest_until - self.clock.now()).total_seconds(), RETRY_AFTER_CAP_S)
            self.breaker.rest_until, self.breaker.rest_until_wall = self.clock.monotonic() + left_s, known.rest_until

    def take(self, records: Sequence[Record]) -> None:
        """Take in what was polled, in order."""
        self.waiting.extend(records)
        if records:
            self._next = records[-1].offset + 1
        self.pump()

    def position(self) -> int:
        """Return the offset from which on nothing was taken in yet."""
        return max(self._next, self.window.committed)

    def skip_to(self, position: int) -> None:
        """Read on further up: the log has let go of what came next. What was taken in is still delivered."""
        self._next = max(self._next, position)

    def wants_more(self) -> bool:
        """Tell whether the partition should be read on."""
        return not self.waiting and self.window.room() > 0 and self._leaving_until is None and self.reads()

    def reads(self) -> bool:
        """Tell whether it may take anything in: nobody has to decide first, or to leave."""
        return self.astray is None and self.waits is None

    def starved(self) -> bool:
        """Tell whether only a commit can let it go on: nothing waits to be sent, and there is no room for more."""
        return not self._heads and self.window.room() == 0

    def set_receiver(self, receiver: Receiver) -> None:
        """Use another sink, key or setting from the next attempt on, or hold and reopen the line by decision."""
        if receiver == self.receiver:
            return
        self.changed.add(self.partition)
        before, self.receiver, self.window.size = self.receiver, receiver, receiver.profile.window
        self.breaker.policy, self.breaker.hold_after = receiver.profile.retry, receiver.profile.hold_after
        if _way(receiver) != _way(before):
            self.breaker.forget_times()
            for delivery in self._heads.values():
                delivery.not_before = 0.0
        if receiver.sink != before.sink or receiver.held != before.held:
            self._gone = None
        self.pump()

    def leave(self) -> None:
        """Let another channel have the feed: start nothing new, but end what stands below what was begun.

        So no event has gone out beyond the cursor that the other channel begins at, unless the receiver is away.
        """
        if self._leaving_until is None:
            self._leaving_until = self.clock.monotonic() + LEAVE_S
            self.pump()

    def leaving(self) -> bool:
        """Tell whether the feed is being given up."""
        return self._leaving_until is not None

    def stay(self) -> None:
        """Have the feed after all."""
        if self._leaving_until is not None:
            self._leaving_until = None
            self.pump()

    def has_left(self) -> bool:
        """Tell whether nothing is under way any more, so that the feed can be given up."""
        if self._leaving_until is None:
            return False
        gaps = any(offset < self._highest for offset in (*self._heads, *self._later))
        return (not self.busy() and not gaps) or self.clock.monotonic() >= self._leaving_until

    def resume(self) -> None:
        """Start again after a rebalance that left the feed with this process."""
        self.winding_down = False
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
        left = self.has_left()
        if left and self.astray is None:
            self._left_at = self._left_at or self.clock.now()
            return left_note(self._left_at)
        self._left_at = None
        why = self.astray if left else self.receiver.held or self.astray or self.waits or self._gone or self.breaker.why
        if why is None:
            self._note = None
            return ""
        why, before = why[:WHY_CHARS], self._note
        same = before is not None and before.why == why
        rest = self.breaker.rest_until_wall
        # A decision holds it since it was made, whatever the receiver did before.
        failing_since = self.breaker.held_since if why == (self.breaker.why or "")[:WHY_CHARS] else None
        self._note = Note(
            before.held_since if same and before is not None else failing_since or self.clock.now(),
            why,
            decided=self.receiver.held is not None,
            gone=self.was_gone,
            astray=self.astray is not None,
            waits=self.waits is not None,
            left=left,
            quiet=not self.troubled and self.receiver.held is None,
            rest_until=rest,
            sink=sink_mark(self.receiver.sink) if rest is not None or self._gone is not None else None,
        )
        return self._note.to_text()

    def busy(self) -> bool:
        """Tell whether an attempt is under way, or its end not yet on record."""
        return bool(self._tasks) or bool(self._ending)

    def pump(self) -> None:
        """Admit what fits, and start what may be sent."""
        self.changed.add(self.partition)
        if self.closed or self.winding_down:
            return
        while self.waiting and self.window.room() > 0 and self._leaving_until is None:
            record = self.waiting.popleft()
            is_head = self.window.admit(record.offset, record.key or b"")
            (self._heads if is_head else self._later)[record.offset] = Delivery(record)
        if self.receiver.parks:
            self._park_wanted()
        if not self._heads or self.receiver.held or self._gone:
            return
        if self.breaker.held:
            self._probe()
        else:
            self._start_due()

    def _pump_soon(self) -> None:
        """Pump once for all that ends in this turn of the loop: each look at the window costs the same."""
        self.changed.add(self.partition)
        if not self._pumping:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump_now)

    def _pump_now(self) -> None:
        self._pumping = False
        self.pump()

    def _park_wanted(self) -> None:
        """End what somebody wants parked, also while the line is held: it may be what it is stuck on."""
        for offset in sorted(self.receiver.parks.keys() & self._heads.keys()):
            order, head = self.receiver.parks[offset], self._heads[offset]
            if order.event == message_id_of(head.record.headers):  # else the feed was made anew since it was given
                self._end(head, Refused(order.reason, decided=True))
                del self._heads[offset]

    def _startable(self) -> dict[int, Delivery]:
        """Return the heads that may be sent once they are due; a line that leaves begins nothing new."""
        bound = self._highest if self._leaving_until is not None else math.inf
        return {o: delivery for o, delivery in self._heads.items() if not delivery.unready and o < bound}

    def _probe(self) -> None:
        """Send the oldest event alone, when its time has come."""
        heads = self._startable()
        rate = self._rate()
        if heads and not self._tasks and self._due(max(self.breaker.ready_at, self._ready_at(rate))):
            self._start([min(heads)], rate)

    def _start_due(self) -> None:
        profile, now = self.receiver.profile, self.clock.monotonic()
        if len(self._tasks) >= profile.concurrency:
            return
        heads = self._startable()
        due = sorted([o for o, delivery in heads.items() if delivery.not_before <= now])
        rate, begun = self._rate(), 0
        while begun < len(due) and len(self._tasks) < profile.concurrency:
            if not self._due(self._ready_at(rate)):
                return
            most = Pace.most(rate, profile.batch)
            group = self._next_group(due[begun : begun + most])
            self._start(group, rate)
            begun += len(group)
        waiting = [delivery.not_before for delivery in heads.values() if delivery.not_before > now]
        if waiting and len(self._tasks) < profile.concurrency and self._due(min(waiting)):
            self._pump_soon()  # its time came while this was looked at

    def _next_group(self, due: Sequence[int]) -> Sequence[int]:
        """Return what goes in the next request: heads only, so never two events of one key."""
        alone = [offset for offset in due if self._heads[offset].alone]
        return due[: max(1, due.index(alone[0]))] if alone else due

    def _ready_at(self, rate: float | None) -> float:
        return max(self._pace.ready_at(rate), self.breaker.rest_until)

    def _rate(self) -> float | None:
        """Return how many events a second may go: one agency's backlog leaves room for what is due at the others."""
        profile = self.receiver.profile
        oldest_ms = self._heads[min(self._heads)].record.timestamp if self._heads else math.inf
        if self.clock.now().timestamp() * 1000 - oldest_ms < BEHIND_MS:
            return profile.rate_per_s
        return min(profile.rate_per_s or math.inf, profile.catch_up_per_s)

    def _due(self, at: float) -> bool:
        """Tell whether a monotonic time has come; if not, pump again then."""
        delay = at - self.clock.monotonic()
        if delay <= 0:
            return True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay, self.pump)
        return False

    def _start(self, offsets: Sequence[int], rate: float | None) -> None:
        deliveries = [self._heads.pop(offset) for offset in offsets]
        self._highest = max(self._highest, *offsets)
        self._pace.sent(len(deliveries), rate, self.clock.monotonic())
        task = asyncio.get_running_loop().create_task(self._attempt(deliveries))
        self._tasks[task] = deliveries
        task.add_done_callback(self._attempt_ended)

    def _attempt_ended(self, task: asyncio.Task[None]) -> None:
        deliveries = self._tasks.pop(task)
        if not task.cancelled() and not self.closed and (error := task.exception()) is not None:
            # A mistake of ours: nothing is left dangling, the line is held and says why.
            log.error("attempt_crashed", agency=self.receiver.agency, error=repr(error), exc_info=error)
            left = [d for d in deliveries if self._is_underway(d.record.offset)]
            self._again(left, Later(f"内部错误 (an error of ours): {error!r}"), self.clock.monotonic())
        self._pump_soon()

    def _is_underway(self, offset: int) -> bool:
        """Tell whether an event that was begun has neither ended nor been laid back."""
        return self.window.is_open(offset) and offset not in self._heads and offset not in self._ending

    async def _attempt(self, deliveries: Sequence[Delivery]) -> None:
        if not (ready := [delivery for delivery in deliveries if self._built(delivery)]):
            return
        for delivery in ready:
            delivery.attempts += 1
        receiver, began = self.receiver, self.clock.monotonic()
        outcome = await self.office.send(receiver, ready)
        if self.closed:
            return
        moved = _way(receiver) != _way(self.receiver)
        if moved and not isinstance(outcome, Delivered):
            # It was said of an address, a token or a format that is no longer used: what is used now is asked.
            self._back(ready)
            return
        if isinstance(outcome, Refused) and len(ready) > 1:
            # A batch is refused whole: each of its events goes alone now, and only the refused one is parked.
            for delivery in ready:
                delivery.alone = True
            self._back(ready)
            self._answered()
            return
        match outcome:
            case Later():
                self._again(ready, outcome, began)
            case Gone():
                self._back(ready)
                self._gone_since(outcome)
            case Delivered() | Refused():
                if not moved:
                    self._answered()
                for delivery in ready:
                    self._end(delivery, outcome)

    def _gone_since(self, gone: Gone) -> None:
        if self._gone is None:
            self._gone = gone.reason
            self.troubled, self.was_gone = True, True
            self.office.gone(self.receiver.agency, gone.reason)

    def _back(self, deliveries: Sequence[Delivery]) -> None:
        self._heads.update({delivery.record.offset: delivery for delivery in deliveries})

    def _built(self, delivery: Delivery) -> bool:
        """Build the message if need be; what can't be built, or was stopped, is retried or ends here, unsent."""
        if self.receiver.stops:
            why = stopped(grants_of(delivery.record.headers), self.receiver.stops)
            if why is not None:
                self._end(delivery, Refused(why, decided=True))
                return False
        delivery.first_at = delivery.first_at or self.clock.now()
        form = self.receiver.profile.format
        if delivery.message is None or delivery.form != form:
            built = self.office.build(delivery, form)
            if isinstance(built, Unready):
                delivery.unready = True
                self._back([delivery])
                built.until.add_done_callback(lambda _: self._ready(delivery))
                return False
            if isinstance(built, Refused):
                self._end(delivery, built)
                return False
            delivery.message, delivery.form = built, form
        return True

    def _ready(self, delivery: Delivery) -> None:
        delivery.unready = False
        self.pump()

    def _answered(self) -> None:
        self.breaker.succeeded(self.clock.monotonic())
        if self.troubled and not self.breaker.held and self._gone is None:
            log.info("line_reopened", agency=self.receiver.agency)
            self.office.flows(self.receiver.agency, was_gone=self.was_gone)
            self.troubled, self._told, self.was_gone = False, False, False

    def _end(self, delivery: Delivery, outcome: Delivered | Refused) -> None:
        ended = Ended(self.receiver.agency, delivery, outcome, self.clock.now())
        self.office.record(ended, lambda: self._recorded(delivery.record.offset))
        self._ending.add(delivery.record.offset)

    def _again(self, deliveries: Sequence[Delivery], later: Later, began: float) -> None:
        now = self.clock.monotonic()
        not_before = self.breaker.failed(later.reason, later.not_before_s, began, now, self.clock.now())
        for delivery in deliveries:
            delivery.not_before = not_before
        self._back(deliveries)
        if not self._told and self.breaker.alarming(now, self.clock.now()):
            log.warning("line_held", agency=self.receiver.agency, why=later.reason)
            self.troubled = self._told = True
            self.office.held(self.receiver.agency, later.reason)

    def _recorded(self, offset: int) -> None:
        """Let the cursor pass an event whose end is on record, and its key's next event go."""
        self._ending.discard(offset)
        if self.closed:
            return
        if (following := self.window.end(offset)) is not None:
            self._heads[following] = self._later.pop(following)
        self._pump_soon()

    def close(self) -> None:
        """Stop at once: what is under way is given up, and another process will do it again under the same id."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        self.waiting.clear()


def _way(receiver: Receiver) -> tuple[object, ...]:
    """Return what an answer is about: who answers at this address, to this token, with this certificate and format."""
    profile = receiver.profile
    return receiver.sink, profile.auth, profile.tls, profile.format
