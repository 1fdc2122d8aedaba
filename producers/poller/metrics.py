"""What the poller counts."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge


class PollerMetrics:
    """Counters of one poller process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rows = Counter(
            "hongyan_poller_rows",
            "Rows that were read, by outcome: new, changed, deleted, unchanged, ignored, rejected",
            labelnames=["outcome"],
            registry=registry,
        )
        self.working = Gauge("hongyan_poller_working", "1 while it has the lock and all it needs", registry=registry)
        self.rejects = Gauge("hongyan_poller_rejects", "Rows that are rejected now", registry=registry)
        self.withheld = Gauge(
            "hongyan_poller_withheld_deletions", "Rows that are gone, but more than the limit", registry=registry
        )
        self.looked = Gauge(
            "hongyan_poller_looked_timestamp_seconds", "When the last look at the table ended", registry=registry
        )

    def page_ended(self, outcomes: Mapping[str, int]) -> None:
        """Count the rows of a page."""
        for outcome, number in outcomes.items():
            self._rows.labels(outcome).inc(number)
