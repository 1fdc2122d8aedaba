"""The router's loop: consume, route and commit in one transaction; restore on assignment; build anew when lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence

import structlog

from consumers.router.alarms import told_before
from consumers.router.backfill import Backfiller
from consumers.router.batch import BatchRouter, Decode
from consumers.router.memory import Memory, Scope
from consumers.router.metrics import RouterMetrics
from consumers.router.plan import Plan
from consumers.router.reading import SchemaNames
from consumers.router.traces import RouteSpans
from consumers.router.writing import BatchState, Limits
from schemas.topics import Topics
from services.quarantine.aside import original
from services.routing.redaction import Redactor
from services.runtime.clock import SystemClock
from services.runtime.errors import (
    KafkaUnavailableError,
    ProducerLostError,
    RecordTooLargeError,
    TransactionFailedError,
    UnavailableError,
)
from services.runtime.kafka.port import Consumer, Kafka, Partition, Record, TransactionalProducer
from services.runtime.lifecycle import outlast
from services.runtime.tracing import Tracer, Untraced

POLL_S = 0.2
CONFIG_WAIT_S = 10.0
RETRY_S = 0.5
RESTORE_BATCH = 2000

log = structlog.get_logger()
Found = Mapping[Partition, Sequence[Record]]


class Router:
    """Routes the events of some domains, exactly once, until told to stop.

    ``plan`` gives the configuration of the moment; it is asked before every batch, so a change works with the next one.
    """

    def __init__(
        self,
        kafka: Kafka,
        topics: Topics,
        domains: Collection[str],
        memory: Memory,
        schemas: SchemaNames,
        decode: Decode,
        redactor: Redactor,
        plan: Callable[[], Plan],
        metrics: RouterMetrics,
        backfiller: Backfiller | None = None,
        *,
        slot: str,
        batch: int,
        tracer: Tracer | None = None,
    ) -> None:
        self._spans = RouteSpans(tracer or Untraced())
        self._kafka = kafka
        self._topics = topics
        self._inputs = [topics.events(domain) for domain in domains]
        self._memory = memory
        self._schemas = schemas
        self._decode = decode
        self._redactor = redactor
        self._plan = plan
        self._backfiller = backfiller
        self._metrics = metrics
        self._slot = slot
        self._batch = batch
        self._scopes: dict[Partition, Scope] = {}
        self._written = [topics.ledger_routed, topics.deadletter("router"), topics.control_backfill, topics.alerts]
        self._limits = Limits()
        self._clock = SystemClock()
        self.working = False

    def run(self, stop: threading.Event) -> None:
        """Route until ``stop``; whatever is away is waited for."""
        outlast("router", lambda: self._session(stop), stop, on_outage=self._interrupted)

    def _interrupted(self) -> None:
        self.working = False

    def _session(self, stop: threading.Event) -> None:
        # The producer comes first: building it ends the transaction that a killed predecessor left open.
        producer = self._kafka.transactional_producer(self._topics.transactional_id("router", self._slot))
        try:
            consumer = self._kafka.consumer(
                self._topics.group("router"), client_id=f"router-{self._slot}", instance=f"router-{self._slot}"
            )
            try:
                self._route_until(stop, consumer, producer)
            finally:
                self._scopes.clear()
                self._drop_backfill()
                consumer.close()
        finally:
            producer.close()

    def _route_until(self, stop: threading.Event, consumer: Consumer, producer: TransactionalProducer) -> None:
        router = BatchRouter(
            producer,
            self._memory,
            self._topics,
            self._schemas,
            self._decode,
            self._redactor,
            self._limits,
            lambda topic, partition, offset: original(self._kafka, topic, partition, offset),
            self._clock,
            self._spans,
        )
        router.alarms.open.update(told_before(self._kafka, self._topics))
        consumer.subscribe(self._inputs, lambda given: self._restore(consumer, given), self._give_up)
        learnt: Plan | None = None
        while not stop.is_set():
            found = consumer.poll(self._patience(), self._batch)
            self.working = True
            plan = self._plan()
            if plan is not learnt:
                producer.learn([*self._written, *map(self._topics.feed, sorted(plan.agencies))])
                learnt = plan
            try:
                self._round(found, plan, router, consumer, producer)
            except ProducerLostError:
                raise
            except RecordTooLargeError as error:
                self._learn_limits(plan)
                raise ProducerLostError(str(error)) from error
            except UnavailableError as error:
                log.warning("batch_aborted", error=str(error))
                producer.abort()
                self._rewind(consumer)
                self._drop_backfill()
                stop.wait(RETRY_S if not isinstance(error, TransactionFailedError) else 0)

    def _learn_limits(self, plan: Plan) -> None:
        """Ask how large a record each topic takes, after one has refused a record: the next time it is measured."""
        admin = self._kafka.admin()
        try:
            self._limits.learn(admin.size_limits([*self._written, *map(self._topics.feed, plan.agencies)]))
        finally:
            admin.close()

    def _round(
        self, found: Found, plan: Plan, router: BatchRouter, consumer: Consumer, producer: TransactionalProducer
    ) -> None:
        """Route what was polled, and with it a piece of a backfill, in one transaction."""
        backfiller = self._backfiller
        seams = backfiller.unseamed(plan, self._scopes) if backfiller else []
        behind = sum(map(len, found.values())) >= self._batch
        piece = backfiller.piece(plan, self._scopes, beside=bool(found), behind=behind) if backfiller else None
        if not found and not seams and piece is None:
            return
        self._metrics.batch_begun()
        state = BatchState()
        producer.begin()
        offsets = {partition: records[-1].offset + 1 for partition, records in found.items()}
        if backfiller and seams:
            # What was polled is routed by this plan, so the seam lies before it.
            firsts = {p: found[p][0].offset if p in found else consumer.position(p) for p in self._scopes}
            backfiller.note_seams(seams, firsts, router, plan, state)
            offsets = {scope.partition: firsts[scope.partition] for _, scope in seams} | offsets
        for partition, records in found.items():
            router.route(self._scopes[partition], records, plan, state)
        if backfiller and piece is not None:
            # Its offset goes with it: a router that has lost the partition can't commit.
            live = offsets.setdefault(piece.task.scope.partition, consumer.position(piece.task.scope.partition))
            backfiller.route(piece, live, router, producer, plan, state)
        producer.send_offsets(offsets, consumer)
        producer.commit()
        self._remember(state)
        if backfiller and piece is not None:
            backfiller.committed()

    def _patience(self) -> float:
        """Return how long a poll may wait for live events: briefly while a backfill has something to do."""
        return min(POLL_S, self._backfiller.patience()) if self._backfiller is not None else POLL_S

    def _drop_backfill(self) -> None:
        if self._backfiller is not None:
            self._backfiller.drop()

    def _remember(self, state: BatchState) -> None:
        """Write what the committed batch changed; its ledger offsets are known by now."""
        checkpoints = {scope: sent.result(0).offset + 1 for scope, sent in state.ledger.items()}
        self._memory.write(state.changes, checkpoints, state.config)
        self._metrics.batch_committed(state.verdicts)
        self._spans.record(state.spans)

    def _rewind(self, consumer: Consumer) -> None:
        """Go back to what is committed, after a transaction that was aborted."""
        assigned = consumer.assignment()
        committed = consumer.committed(assigned)
        beginnings = consumer.beginning_offsets([p for p in assigned if p not in committed])
        for partition in assigned:
            held = committed.get(partition)
            consumer.seek(partition, held.offset if held else beginnings[partition])

    def _give_up(self, revoked: Collection[Partition]) -> None:
        for partition in revoked:
            self._scopes.pop(partition, None)

    def _restore(self, consumer: Consumer, assigned: Collection[Partition]) -> None:
        """Learn the positions, then what the ledger tells: the last owner's transaction has ended by then."""
        for partition in assigned:
            consumer.position(partition)
        scopes = {partition: Scope(partition) for partition in assigned}
        if scopes:
            count = self._read_ledger(list(scopes.values()))
            self._await_config(max(self._memory.config(scope) for scope in scopes.values()))
            log.info("partitions_assigned", partitions=len(scopes), restored=count)
        self._scopes.update(scopes)

    def _await_config(self, version: int) -> None:
        """Wait for the configuration that the last owner routed by: none of its events may go by an older one."""
        deadline = self._clock.monotonic() + CONFIG_WAIT_S
        pause = threading.Event()
        while self._plan().version < version:
            if self._clock.monotonic() > deadline:
                raise KafkaUnavailableError(f"the control topic is behind {version}, which the last owner routed by")
            pause.wait(0.01)

    def _read_ledger(self, scopes: list[Scope]) -> int:
        sharing: dict[Partition, list[Scope]] = {}
        for scope in scopes:
            ledger = Partition(self._topics.ledger_routed, scope.partition.partition)
            sharing.setdefault(ledger, []).append(scope)
        reader = self._kafka.consumer(None, client_id=f"router-{self._slot}-restore")
        try:
            return self._fold_to_end(reader, sharing, self._log_ends(sharing))
        finally:
            reader.close()

    def _log_ends(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Return where the ledger ends with what the last owner has under way: that is read too, once it has ended."""
        admin = self._kafka.admin()
        try:
            return admin.log_ends(partitions)
        finally:
            admin.close()

    def _fold_to_end(
        self, reader: Consumer, sharing: dict[Partition, list[Scope]], ends: Mapping[Partition, int]
    ) -> int:
        reader.assign(list(sharing))
        beginnings = reader.beginning_offsets(list(sharing))
        for ledger, scopes in sharing.items():
            start = min(self._memory.checkpoint(scope) for scope in scopes)
            reader.seek(ledger, max(start, beginnings[ledger]))
        count = 0
        while any(reader.position(ledger) < end for ledger, end in ends.items()):
            for ledger, records in reader.poll(1.0, RESTORE_BATCH).items():
                self._memory.fold(sharing[ledger], records)
                count += len(records)
        return count
