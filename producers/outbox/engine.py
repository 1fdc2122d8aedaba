"""The relay's loop: lock the table, fence the predecessor, settle what it had sent, then batch by batch.

A batch is one Kafka transaction that holds the events and their ids (:mod:`producers.outbox.progress`); the rows are
settled after its commit and before the next one is published. A session begins by settling what the last transaction
on the log was about, so every row is there exactly once. Any trouble ends the session, and the next one begins with the
same steps.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
import structlog

from producers.department.duty import Duty
from producers.outbox import progress
from producers.outbox.metrics import RelayMetrics
from producers.outbox.repository import Outbox, OutboxRow, OutboxSession
from producers.publishing import Prepared
from schemas.topics import Topics
from schemas.tracing import PARENT, STATE
from services.runtime.errors import FieldProblem, InvalidError
from services.runtime.kafka.port import Kafka, TransactionalProducer

log = structlog.get_logger()


class Preparing(Protocol):
    """Checks and encodes events (:class:`producers.publishing.Publishing`)."""

    def prepare(self, attributes: Mapping[str, Any], data: object) -> Prepared:
        """Return the event ready to send; raises InvalidError or RegistryUnavailableError."""
        ...

    def published(self, event: Prepared) -> None:
        """Note that an event stands on the log."""
        ...


@dataclass(frozen=True, slots=True)
class RelayRules:
    """Whose relay this is (``name``, CloudEvents ``source``), rows a transaction at most, seconds between two polls."""

    name: str
    source: str
    batch: int
    poll_s: float


@dataclass(slots=True)
class _Checked:
    """A batch: the events that may go out with their ids, and the rejected ids with the reason."""

    events: list[Prepared] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    rejected: list[tuple[str, str]] = field(default_factory=list)


class Relay:
    """Relays one outbox until told to stop. Of several on one table one works, and the others stand by."""

    def __init__(
        self,
        outbox: Outbox,
        kafka: Kafka,
        topics: Topics,
        publishing: Preparing,
        rules: RelayRules,
        metrics: RelayMetrics,
    ) -> None:
        self._outbox = outbox
        self._kafka = kafka
        self._topics = topics
        self._publishing = publishing
        self._rules = rules
        self._metrics = metrics
        self.duty = Duty("relay", rules.name, kafka, topics, metrics.working)
        self._unsettled: list[str] = []

    def run(self, stop: threading.Event) -> None:
        """Relay until ``stop``; whatever is away is waited for."""
        self.duty.run(lambda: self._session(stop), stop)

    def _session(self, stop: threading.Event) -> None:
        spec = self._topics.relay_spec()
        with (
            self._outbox.session() as table,
            self.duty.taken(table.lock, spec, self._rules.poll_s, stop) as producer,
        ):
            if producer is None:
                return
            table.settle(progress.last_published(self._kafka, self._topics, self._rules.name))
            self._relay_until(stop, table, producer)

    def _relay_until(self, stop: threading.Event, table: OutboxSession, producer: TransactionalProducer) -> None:
        self.duty.enter("working")
        self._unsettled = []
        while not stop.is_set():
            if not self.relay_once(table, producer):
                table.wait(self._rules.poll_s, stop)
        table.settle(self._unsettled)

    def relay_once(self, table: OutboxSession, producer: TransactionalProducer) -> int:
        """Relay the oldest rows and return how many there were; raises UnavailableError: then the session is over.

        The batch before is settled while this one is checked, and before this one is published: what a killed relay
        leaves unsettled is never more than its last transaction.
        """
        before, self._unsettled = self._unsettled, []
        held = set(before)
        rows = [row for row in table.unsent(self._rules.batch + len(before)) if row.id not in held]
        with ThreadPoolExecutor(1, "settle") as settler:
            settling = settler.submit(table.settle, before)
            checked = self._check(rows)
        settling.result()
        if checked.ids:
            self._publish(producer, checked.events, checked.ids)
            self._unsettled = checked.ids
        for id_, reason in checked.rejected:
            table.reject(id_, reason)
            log.warning("row_rejected", id=id_, reason=reason)
        if rows:
            self._metrics.batch_ended(len(checked.ids), len(checked.rejected))
        return len(rows)

    def _check(self, rows: Sequence[OutboxRow]) -> _Checked:
        checked = _Checked()
        for row in rows:
            try:
                checked.events.append(self._prepare(row))
                checked.ids.append(row.id)
            except InvalidError as error:
                checked.rejected.append((row.id, str(error)))
        return checked

    def _publish(self, producer: TransactionalProducer, events: Sequence[Prepared], ids: Sequence[str]) -> None:
        def fill() -> None:
            for event in events:
                producer.send(event.topic, key=event.key, value=event.value, headers=event.headers)
            progress.write(producer, self._topics, self._rules.name, ids)

        self.duty.commit(producer, fill)
        for event in events:
            self._publishing.published(event)

    def _prepare(self, row: OutboxRow) -> Prepared:
        source = self._rules.source
        if row.source not in {None, source}:
            raise InvalidError([FieldProblem("/source", f"此发件箱的 source 是 {source} (this outbox's is another)")])
        try:
            data = orjson.loads(row.payload)
        except orjson.JSONDecodeError as error:
            raise InvalidError([FieldProblem("/payload", f"不是 JSON (no JSON): {error}")]) from error
        # The key is what the order hangs on: one that is not the business key is refused as a wrong subject.
        attributes = {"id": row.id, "source": source, "type": row.type, "subject": row.key}
        given = {"time": row.time, "follows": row.follows, "division": row.division}
        given |= {PARENT: row.traceparent, STATE: row.tracestate}
        return self._publishing.prepare(attributes | {k: v for k, v in given.items() if v is not None}, data)
