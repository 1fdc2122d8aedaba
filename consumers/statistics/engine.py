"""The statistics consumer: facts and offsets in one PostgreSQL transaction, so that each event counts exactly once."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import structlog

from consumers.runner.rows import RowConsumer
from consumers.statistics.metrics import StatisticsMetrics
from consumers.statistics.projection import Projection
from schemas.topics import Topics
from services.runtime.kafka.port import Kafka
from services.statistics.facts import Deletion, Fact
from services.statistics.store import FactStore, Stored

SETTLE_EVERY_S = 5.0
"""Seconds between two settlings while nothing comes; reading a figure settles at once, whatever is left."""

log = structlog.get_logger()


class Statistics(RowConsumer[Fact | Deletion, Stored]):
    """Counts the events of some topics until told to stop, and settles what it stored when there is nothing to do."""

    def __init__(
        self,
        kafka: Kafka,
        topics: Topics,
        inputs: Collection[str],
        store: FactStore,
        projection: Projection,
        metrics: StatisticsMetrics,
        instance: str,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self._metrics = metrics
        self._settle = settle
        self._settled_at = float("-inf")
        super().__init__(
            "statistics", kafka, topics, inputs, store, projection.project, self._stored, instance, self._idle
        )

    def _stored(self, stored: Stored, put_aside: int) -> None:
        self._metrics.batch_stored(stored)
        self._metrics.dead_letters.inc(put_aside)
        if stored.conflicts:
            log.error("facts_conflicted", count=stored.conflicts)

    def _idle(self) -> None:
        """Settle now and then. A database that is away is noticed by it too, also while no event comes."""
        if time.monotonic() - self._settled_at > SETTLE_EVERY_S:
            self._settle()
            self._settled_at = time.monotonic()
