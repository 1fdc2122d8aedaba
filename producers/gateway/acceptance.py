"""Takes events in: who may publish what, then Kafka, and an answer only after its acknowledgement."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from producers.gateway.parsing import Parsed
from producers.publishing import Prepared, Publishing
from services.identity.repository import key_digest
from services.runtime.errors import FieldProblem, ForbiddenError, HongyanError, InvalidError, KafkaUnavailableError
from services.runtime.kafka.port import Placed, Producer, Sent
from services.subscriptions.control import ControlView, Department


class UnauthenticatedError(HongyanError):
    """需要部门密钥：Authorization: Bearer hyk_… (a department's key is needed)"""


class RightMissingError(ForbiddenError):
    """The key lacks the right; the field says which."""

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        super().__init__("; ".join(f"{p.pointer}: {p.detail}" for p in problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Accepted:
    """An event that stands on the log."""

    prepared: Prepared
    placed: Placed

    def to_json(self) -> dict[str, Any]:
        """Return what its publisher is told."""
        envelope = self.prepared.envelope
        return {
            "id": envelope.id,
            "source": envelope.source,
            "subject": envelope.subject,
            "recordedtime": envelope.recordedtime,
            "topic": self.placed.topic,
            "partition": self.placed.partition,
            "offset": self.placed.offset,
            "quality": list(self.prepared.quality),
        }


class Acceptance:
    """Accepts events for the departments that the control topic names."""

    def __init__(self, publishing: Publishing, view: ControlView, timeout_s: float) -> None:
        self._publishing = publishing
        self._view = view
        self._timeout_s = timeout_s
        # Sending may wait for metadata; one thread keeps the order and the event loop free.
        self._sender = ThreadPoolExecutor(1, "send")
        self.producer: Producer | None = None

    def authenticate(self, authorization: str) -> Department:
        """Return the department of a key; raises UnauthenticatedError."""
        scheme, _, key = authorization.partition(" ")
        digest = key_digest(key.strip())
        for department in list(self._view.departments.values()):
            if scheme.lower() == "bearer" and hmac.compare_digest(department.key_hash, digest):
                return department
        raise UnauthenticatedError

    def prepare(self, department: Department, events: Sequence[Parsed]) -> list[Prepared]:
        """Check all events; raises RightMissingError or InvalidError that names every bad field of every event."""
        completed = [replace(e, attributes={"source": department.source, **e.attributes}) for e in events]
        refused = [p for event in completed for p in _rights_problems(department, event, self._publishing.types)]
        if refused:
            raise RightMissingError(refused)
        prepared, problems = [], []
        for event in completed:
            try:
                prepared.append(self._publishing.prepare(event.attributes, event.data))
            except InvalidError as error:
                problems += [FieldProblem(event.pointer + p.pointer, p.detail) for p in error.problems]
        if problems:
            raise InvalidError(problems)
        return prepared

    async def publish(self, prepared: Sequence[Prepared]) -> list[Accepted]:
        """Append the events and wait for Kafka; raises KafkaUnavailableError that names what was not acknowledged."""
        loop = asyncio.get_running_loop()
        sent = await loop.run_in_executor(self._sender, self._send, prepared)
        outcomes = await asyncio.gather(*(_outcome(loop, one) for one in sent), return_exceptions=True)
        accepted = [Accepted(p, o) for p, o in zip(prepared, outcomes, strict=True) if isinstance(o, Placed)]
        if len(accepted) == len(prepared):
            return accepted
        failed = [p.envelope.id for p, o in zip(prepared, outcomes, strict=True) if not isinstance(o, Placed)]
        if not accepted:
            raise KafkaUnavailableError(
                "Kafka 没有应答，一个事件也没有接收 (nothing was accepted; send again, same ids)"
            )
        raise KafkaUnavailableError(
            f"Kafka 只确认了一部分，未确认的 id (not acknowledged; send again with the same ids): {', '.join(failed)}"
        )

    def _send(self, prepared: Sequence[Prepared]) -> list[Sent]:
        if self.producer is None:
            raise KafkaUnavailableError("Kafka 尚未连上 (not connected to Kafka yet)")
        return [self.producer.send(p.topic, key=p.key, value=p.value, headers=p.headers) for p in prepared]


def _rights_problems(department: Department, event: Parsed, known: Collection[str]) -> list[FieldProblem]:
    problems = []
    event_type = event.attributes.get("type")
    # A type that nobody has is an invalid event, not a missing right: validation names it.
    if event_type in known and event_type not in department.types:
        detail = f"{department.name} 无权发布 {event_type} (no right to publish it)"
        problems.append(FieldProblem(f"{event.pointer}/type", detail))
    if event.attributes["source"] != department.source:
        detail = f"此密钥的 source 是 {department.source} (the key's source is another)"
        problems.append(FieldProblem(f"{event.pointer}/source", detail))
    return problems


def _outcome(loop: asyncio.AbstractEventLoop, sent: Sent) -> asyncio.Future[Placed]:
    future: asyncio.Future[Placed] = loop.create_future()

    def settle(placed: Placed | None, error: Exception | None) -> None:
        if future.done():
            return
        if placed is not None:
            future.set_result(placed)
        else:
            future.set_exception(error or KafkaUnavailableError())

    def settle_in_loop(placed: Placed | None, error: Exception | None) -> None:
        loop.call_soon_threadsafe(settle, placed, error)

    sent.then(settle_in_loop)
    return future
