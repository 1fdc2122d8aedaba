"""What the statistics consumer counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.statistics.store import Stored


class StatisticsMetrics:
    """Counters of one statistics process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._facts = Counter("hongyan_statistics_facts", "Facts added", registry=registry)
        self._repeated = Counter("hongyan_statistics_repeated", "Events that were counted already", registry=registry)
        self._conflicts = Counter(
            "hongyan_statistics_conflicts", "Events counted already with other content", registry=registry
        )
        self.lost_months = Gauge(
            "hongyan_statistics_lost_months",
            "Closed months whose facts can't be counted from the log any more",
            registry=registry,
        )
        self.dead_letters = Counter("hongyan_statistics_deadletters", "Records put aside", registry=registry)

    def batch_stored(self, stored: Stored) -> None:
        """Count one stored batch."""
        self._facts.inc(stored.added)
        self._repeated.inc(stored.repeated)
        self._conflicts.inc(stored.conflicts)
