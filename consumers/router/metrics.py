"""What the router counts."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter


class RouterMetrics:
    """Counters of one router process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = Counter(
            "hongyan_router_events", "Input events by verdict", labelnames=["verdict"], registry=registry
        )
        self._batches = Counter("hongyan_router_batches", "Committed transactions", registry=registry)
        self.filter_errors = Counter(
            "hongyan_router_filter_errors", "Filter expressions that could not be evaluated", registry=registry
        )

    def batch_begun(self) -> None:
        """Note that a batch was read."""

    def batch_committed(self, verdicts: Mapping[str, int]) -> None:
        """Count one committed batch."""
        self._batches.inc()
        for verdict, count in verdicts.items():
            self._events.labels(verdict).inc(count)
