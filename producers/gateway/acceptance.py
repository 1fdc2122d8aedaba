"""Takes events in: who may publish what, then Kafka, and an answer only after its acknowledgement."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

from producers.gateway.parsing import Parsed
from producers.gateway.remembered import Identity, Remembered, Seen
from producers.publishing import Prepared, Publishing
from schemas.content import framed_digest
from schemas.contracts import EventContract
from schemas.envelope import identity_of
from schemas.tracing import TraceContext
from services.runtime.clock import Clock
from services.runtime.errors import (
    FieldProblem,
    InvalidError,
    KafkaUnavailableError,
    RecordTooLargeError,
    TooLargeError,
)
from services.runtime.kafka.port import Placed, Producer
from services.runtime.settings import GatewaySettings
from services.subscriptions.control import Department
from services.subscriptions.rights import foreign_divisions, missing_rights

_Outcome = Placed | RecordTooLargeError | None
_Settler = Callable[[Placed | None, Exception | None], None]
GRACE_S = 0.5
"""Seconds that the client library has beyond the limit to say itself that a record was given up."""
AWAY = "Kafka 没有确认，请以同一 id 重发 (not acknowledged; send again with the same id)"
TOO_LARGE = "超过 Kafka 所允许的大小，重发无用 (Kafka takes no event of this size; sending it again does not help)"
CONFLICT = "同一 source、id 与 subject 已有另一内容，先到的有效 (accepted before with other content; the first stands)"


@dataclass(frozen=True, slots=True)
class Refused:
    """Why an event was not taken: the HTTP status that it would have had alone, and each bad field."""

    status: int
    problems: Sequence[FieldProblem]


@dataclass(frozen=True, slots=True)
class Accepted:
    """An event that stands on the log since ``recordedtime``; ``repeated`` tells that it did before this request."""

    prepared: Prepared
    placed: Placed
    recordedtime: str
    repeated: bool = False


class Acceptance:
    """Accepts the events of departments."""

    def __init__(
        self,
        publishing: Publishing,
        contracts: Mapping[str, EventContract],
        remembered: Remembered,
        clock: Clock,
        settings: GatewaySettings,
    ) -> None:
        self._publishing = publishing
        self._contracts = contracts
        self._remembered = remembered
        self._clock = clock
        self._timeout_s = settings.acknowledge_timeout_s
        # Sending may wait for metadata; one thread keeps the order and the event loop free.
        self._sender = ThreadPoolExecutor(1, "send")
        self.producer: Producer | None = None
        self.stuck: SimpleQueue[Producer] = SimpleQueue()

    def check(
        self, department: Department, events: Sequence[Parsed], caller: TraceContext | None = None
    ) -> list[Prepared | Refused]:
        """Return each event ready to send, or why it is refused; raises RegistryUnavailableError.

        ``caller`` is the span that the request comes from.
        """
        known: dict[Identity, Prepared] = {}
        return [self._check(department, event, known, caller) for event in events]

    def _check(
        self, department: Department, event: Parsed, known: dict[Identity, Prepared], caller: TraceContext | None
    ) -> Prepared | Refused:
        if event.problems:
            return Refused(422, event.problems)
        attributes = {"source": department.source, **event.attributes}
        foreign = missing_rights(department, attributes, self._contracts)
        if foreign:
            return _refused(403, event.pointer, foreign)
        try:
            prepared = self._publishing.prepare(attributes, event.data, caller=caller)
        except InvalidError as error:
            return _refused(413 if isinstance(error, TooLargeError) else 422, event.pointer, error.problems)
        foreign = foreign_divisions(department, self._contracts[prepared.attributes["type"]], attributes, event.data)
        if foreign:
            return _refused(403, event.pointer, foreign)
        return self._conflict(prepared, event.pointer, known) or prepared

    def _conflict(self, event: Prepared, pointer: str, known: dict[Identity, Prepared]) -> Refused | None:
        identity = identity_of(event.attributes)
        seen = self._remembered.get(identity)
        first = known.setdefault(identity, event)
        if seen is None and first is event:
            return None
        digest = seen.digest if seen else framed_digest(first.value, first.attributes)
        return (
            None
            if digest == framed_digest(event.value, event.attributes)
            else _refused(409, pointer, [FieldProblem("/id", CONFLICT)])
        )

    async def publish(self, prepared: Sequence[Prepared]) -> list[Accepted | Refused]:
        """Append the events and wait for Kafka; an event that Kafka did not acknowledge in time is refused with 503,
        one that Kafka refuses for its size with 413.

        An event that this gateway has accepted before is not appended again: the answer says where it stands.
        """
        seen = [self._remembered.get(identity_of(event.attributes)) for event in prepared]
        fresh = [event for event, before in zip(prepared, seen, strict=True) if before is None]
        placed = iter(await self._append(fresh)) if fresh else iter(())
        return [
            Accepted(event, before.placed, before.recordedtime, repeated=True)
            if before
            else self._answer(event, next(placed))
            for event, before in zip(prepared, seen, strict=True)
        ]

    def _answer(self, event: Prepared, outcome: _Outcome) -> Accepted | Refused:
        if outcome is None:
            return Refused(503, [FieldProblem("", AWAY)])
        if isinstance(outcome, RecordTooLargeError):
            return Refused(413, [FieldProblem("/data", f"{TOO_LARGE} ({len(event.value)} bytes)")])
        self._publishing.published(event)
        recorded = event.attributes["recordedtime"]
        self._remembered.add(
            identity_of(event.attributes), Seen(framed_digest(event.value, event.attributes), outcome, recorded)
        )
        return Accepted(event, outcome, recorded)

    async def _append(self, events: Sequence[Prepared]) -> list[_Outcome]:
        """Return where each came to stand, or that it is too large, None for what was not acknowledged in time.

        A producer that has not said by then that it gave up is stuck: it is put aside, to be closed and built anew.
        With it goes whatever it still held, so that memory is bounded however long Kafka stands still.
        """
        producer = self.producer
        if producer is None:
            return [None] * len(events)
        loop = asyncio.get_running_loop()
        gathered = _Gathered(loop, len(events))
        deadline = self._clock.monotonic() + self._timeout_s
        submitted = loop.run_in_executor(self._sender, self._send, producer, events, gathered, deadline)
        await asyncio.wait([gathered.complete], timeout=self._timeout_s + GRACE_S)
        if submitted.done():
            submitted.result()
        if not gathered.complete.done() and self.producer is producer:
            self.producer = None
            self.stuck.put(producer)
        return gathered.outcomes()

    def _send(self, producer: Producer, events: Sequence[Prepared], gathered: _Gathered, deadline: float) -> None:
        sent = 0
        try:
            # Whoever has waited past the limit behind others must not be sent after the answer.
            if self.producer is producer and self._clock.monotonic() < deadline:
                for event in events:
                    self._send_one(producer, event, gathered.settler(sent))
                    sent += 1
        except KafkaUnavailableError:
            pass  # the first that can't be sent stands for those behind it: none of them is on the log
        finally:
            for number in range(sent, len(events)):
                gathered.settle(number, None)

    @staticmethod
    def _send_one(producer: Producer, event: Prepared, settle: _Settler) -> None:
        try:
            outcome = producer.send(event.topic, key=event.key, value=event.value, headers=event.headers)
        except RecordTooLargeError as error:
            settle(None, error)  # this one alone; those behind it may fit
        else:
            outcome.then(settle)


class _Gathered:
    """Collects the outcomes of many records from Kafka's thread, and wakes the event loop once, with the last."""

    def __init__(self, loop: asyncio.AbstractEventLoop, count: int) -> None:
        self.complete: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._outcomes: list[_Outcome] = [None] * count
        self._left = count
        self._lock = threading.Lock()

    def settler(self, number: int) -> _Settler:
        """Return what a record's outcome is told to."""
        return lambda placed, error: self.settle(number, error if isinstance(error, RecordTooLargeError) else placed)

    def settle(self, number: int, outcome: _Outcome) -> None:
        """Note one outcome: where the record stands, that it is too large, or None."""
        with self._lock:
            self._outcomes[number] = outcome
            self._left -= 1
            last = self._left == 0
        if last and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._finish)

    def outcomes(self) -> list[_Outcome]:
        """Return what is known by now."""
        with self._lock:
            return list(self._outcomes)

    def _finish(self) -> None:
        self.complete.set_result(None)


def _refused(status: int, pointer: str, problems: Sequence[FieldProblem]) -> Refused:
    return Refused(status, [FieldProblem(pointer + p.pointer, p.detail) for p in problems])
