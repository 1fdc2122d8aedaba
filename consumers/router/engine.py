"""The router's loop: consume, route and commit in one transaction; restore on assignment; build anew when lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

import structlog

from consumers.router.batch import BatchRouter, BatchState, Decode, Plan
from consumers.router.memory import Memory, Scope
from consumers.router.metrics import RouterMetrics
from consumers.router.reading import SchemaNames
from schemas.topics import Topics
from services.runtime.errors import ProducerLostError, TransactionFailedError, UnavailableError
from services.runtime.kafka.port import Consumer, Kafka, Partition, TransactionalProducer
from services.runtime.lifecycle import outlast

POLL_S = 0.2
RETRY_S = 0.5
RESTORE_BATCH = 2000

log = structlog.get_logger()


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
        plan: Callable[[], Plan],
        metrics: RouterMetrics,
        *,
        slot: str,
        batch: int,
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._inputs = [topics.events(domain) for domain in domains]
        self._memory = memory
        self._schemas = schemas
        self._decode = decode
        self._plan = plan
        self._metrics = metrics
        self._slot = slot
        self._batch = batch
        self._scopes: dict[Partition, Scope] = {}
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
                consumer.close()
        finally:
            producer.close()

    def _route_until(self, stop: threading.Event, consumer: Consumer, producer: TransactionalProducer) -> None:
        router = BatchRouter(producer, self._memory, self._topics, self._schemas, self._decode)
        consumer.subscribe(self._inputs, lambda given: self._restore(consumer, given), self._give_up)
        learnt: Plan | None = None
        while not stop.is_set():
            found = consumer.poll(POLL_S, self._batch)
            self.working = True
            if not found:
                continue
            plan = self._plan()
            if plan is not learnt:
                producer.learn([self._topics.ledger_routed, *map(self._topics.feed, sorted(plan.agencies))])
                learnt = plan
            self._metrics.batch_begun()
            state = BatchState()
            producer.begin()
            try:
                for partition, records in found.items():
                    router.route(self._scopes[partition], records, plan, state)
                producer.send_offsets({p: records[-1].offset + 1 for p, records in found.items()}, consumer)
                producer.commit()
            except ProducerLostError:
                raise
            except UnavailableError as error:
                log.warning("batch_aborted", error=str(error))
                producer.abort()
                self._rewind(consumer)
                stop.wait(RETRY_S if not isinstance(error, TransactionFailedError) else 0)
                continue
            self._remember(state)

    def _remember(self, state: BatchState) -> None:
        """Write what the committed batch changed; its ledger offsets are known by now."""
        checkpoints = {scope: sent.result(0).offset + 1 for scope, sent in state.ledger.items()}
        self._memory.write(state.changes, checkpoints)
        self._metrics.batch_committed(state.verdicts)

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
            log.info("partitions_assigned", partitions=len(scopes), restored=count)
        self._scopes.update(scopes)

    def _read_ledger(self, scopes: list[Scope]) -> int:
        sharing: dict[Partition, list[Scope]] = {}
        for scope in scopes:
            ledger = Partition(self._topics.ledger_routed, scope.partition.partition)
            sharing.setdefault(ledger, []).append(scope)
        reader = self._kafka.consumer(None, client_id=f"router-{self._slot}-restore")
        try:
            return self._fold_to_end(reader, sharing)
        finally:
            reader.close()

    def _fold_to_end(self, reader: Consumer, sharing: dict[Partition, list[Scope]]) -> int:
        reader.assign(list(sharing))
        ends = reader.end_offsets(list(sharing))
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
