"""The ledger's consumer: every record of events, routes and receipts becomes rows, exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import structlog

from consumers.runner.rows import Never, RowConsumer
from schemas.codec import Codec, UndecodableValue
from schemas.contracts import Contracts
from schemas.registry_client import RegistryAway, RegistryError
from schemas.topics import Topics, TopicSpec
from services.ledger.repository import LedgerStore
from services.ledger.rows import NOTHING, Identifiers, Named, Row, attributes_of, event_row, receipt_rows, route_rows
from services.runtime import metrics
from services.runtime.clock import Clock
from services.runtime.errors import RegistryUnavailableError
from services.runtime.kafka.port import Kafka, Partition, Record
from services.runtime.measuring import CollectorRegistry

TRIM_EVERY = timedelta(days=1)

log = structlog.get_logger()


class LedgerMetrics:
    """What the ledger counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows = metrics.LEDGER_ROWS.on(registry)
        self.dead_letters = metrics.LEDGER_ASIDE.on(registry)


class LedgerProjection:
    """Turns records into rows by the topic they stand on."""

    def __init__(self, topics: Topics, contracts: Contracts, codec: Codec) -> None:
        self._routed = topics.ledger_routed
        self._receipts = topics.receipts
        self._identifiers = Identifiers(contracts)
        self._codec = codec

    def project(self, record: Record) -> Sequence[Row] | Never:
        """Return the rows; raises RegistryUnavailableError when a schema can't be had now (read it again later)."""
        if record.topic not in {self._routed, self._receipts}:
            attributes = attributes_of(record)
            return [event_row(record, attributes, self._identified(record, attributes.get("type", "")))]
        try:
            return route_rows(record) if record.topic == self._routed else receipt_rows(record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return Never(f"no record of {record.topic}: {type(error).__name__} {error}")

    def _identified(self, record: Record, kind: str) -> Named:
        """Return what the event names. One that can't be decoded is in the ledger all the same, naming nothing."""
        try:
            return self._identifiers.of(kind, self._codec.decode(record.value).data)
        except RegistryAway as error:
            raise RegistryUnavailableError(str(error)) from error
        except (UndecodableValue, RegistryError):
            return NOTHING


class Ledger(RowConsumer[Sequence[Row], int]):
    """Fills the ledger until told to stop; once a day it lets go of what the catalogue keeps no longer."""

    def __init__(
        self,
        kafka: Kafka,
        topics: Topics,
        contracts: Contracts,
        store: LedgerStore,
        codec: Codec,
        metrics: LedgerMetrics,
        instance: str,
        clock: Clock,
    ) -> None:
        self._ledger_store = store
        self._retention = retention_of(contracts)
        self._clock = clock
        self._trim_at = clock.now()

        def on_stored(rows: int, put_aside: int) -> None:
            metrics.rows.inc(rows)
            metrics.dead_letters.inc(put_aside)

        inputs = [spec.name for spec in input_specs(topics, contracts)]
        projection = LedgerProjection(topics, contracts, codec)
        super().__init__("ledger", kafka, topics, inputs, store, projection.project, on_stored, instance, self._trim)

    def _trim(self) -> None:
        now = self._clock.now()
        if now >= self._trim_at:
            if trimmed := self._ledger_store.trim(now, self._retention):
                log.info("ledger_trimmed", partitions=trimmed.partitions, rows=trimmed.rows)
            self._trim_at = now + TRIM_EVERY


def input_specs(topics: Topics, contracts: Contracts) -> list[TopicSpec]:
    """Return the topics that the ledger is a view of."""
    domains = contracts.domains()
    names = {*(topics.events(domain) for domain in domains), topics.ledger_routed, topics.receipts}
    return [spec for spec in topics.base_specs(domains) if spec.name in names]


def shortened_logs(kafka: Kafka, topics: Topics, contracts: Contracts) -> dict[Partition, int]:
    """Return the partitions whose first records Kafka no longer keeps, each with the first offset that it does."""
    specs = input_specs(topics, contracts)
    partitions = [Partition(spec.name, number) for spec in specs for number in range(spec.partitions)]
    consumer = kafka.consumer(None, client_id="ledger-rebuild")
    try:
        starts = consumer.beginning_offsets(partitions)
    finally:
        consumer.close()
    return {partition: start for partition, start in starts.items() if start > 0}


def retention_of(contracts: Contracts) -> dict[str, timedelta]:
    """Return how long the catalogue keeps the events of each type."""
    return {name: timedelta(days=one.catalogue.retention_days) for name, one in contracts.types.items()}
