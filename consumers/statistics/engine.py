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

QUIET_S = 5.0
"""Seconds without an event after which what was stored is settled, and again after as many."""
BUSY_S = 300.0
"""Seconds between two settlings while events keep coming. Reading a figure settles at once, whatever is left."""

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
        self._settled_at = self._stored_at = time.monotonic()
        super().__init__(
            "statistics", kafka, topics, inputs, store, projection.project, self._stored, instance, self._idle
        )

    def _stored(self, stored: Stored, put_aside: int) -> None:
        self._stored_at = time.monotonic()
        self._metrics.batch_stored(stored)
        self._metrics.dead_letters.inc(put_aside)
        if stored.conflicts:
            log.error("facts_conflicted", count=stored.conflicts)

    def _idle(self) -> None:
        """Settle now and then. A database that is away is noticed by it too, also while no event comes."""
        now = time.monotonic()
        quiet = now - self._stored_at > QUIET_S
        if now - self._settled_at > (QUIET_S if quiet else BUSY_S):
            self._settle()
            self._settled_at = time.monotonic()
