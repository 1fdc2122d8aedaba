"""The statistics consumer: facts and offsets in one PostgreSQL transaction, so that each event counts exactly once."""

from __future__ import annotations

from collections.abc import Collection

import structlog

from consumers.runner.rows import RowConsumer
from consumers.statistics.metrics import StatisticsMetrics
from consumers.statistics.projection import Projection
from schemas.topics import Topics
from services.runtime.kafka.port import Kafka
from services.statistics.facts import Fact
from services.statistics.repository import FactStore, Stored

log = structlog.get_logger()


class Statistics(RowConsumer[Fact, Stored]):
    """Counts the events of some topics until told to stop."""

    def __init__(
        self,
        kafka: Kafka,
        topics: Topics,
        inputs: Collection[str],
        store: FactStore,
        projection: Projection,
        metrics: StatisticsMetrics,
        instance: str,
    ) -> None:
        def on_stored(stored: Stored, put_aside: int) -> None:
            metrics.batch_stored(stored)
            metrics.dead_letters.inc(put_aside)
            if stored.conflicts:
                log.error("facts_conflicted", count=stored.conflicts)

        super().__init__("statistics", kafka, topics, inputs, store, projection.project, on_stored, instance)
