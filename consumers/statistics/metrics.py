"""What the statistics consumer counts."""

from __future__ import annotations

from services.runtime import metrics
from services.runtime.measuring import CollectorRegistry
from services.statistics.store import Stored


class StatisticsMetrics:
    """Counters of one statistics process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._facts = metrics.STATISTICS_FACTS.on(registry)
        self._repeated = metrics.STATISTICS_REPEATED.on(registry)
        self._conflicts = metrics.STATISTICS_CONFLICTS.on(registry)
        self.lost_months = metrics.STATISTICS_LOST.on(registry)
        self.dead_letters = metrics.STATISTICS_ASIDE.on(registry)

    def batch_stored(self, stored: Stored) -> None:
        """Count one stored batch."""
        self._facts.inc(stored.added)
        self._repeated.inc(stored.repeated)
        self._conflicts.inc(stored.conflicts)
