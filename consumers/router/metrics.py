"""What the router counts."""

from __future__ import annotations

from collections.abc import Mapping

from services.runtime import metrics
from services.runtime.measuring import CollectorRegistry


class RouterMetrics:
    """Counters of one router process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = metrics.ROUTER_EVENTS.on(registry)
        for verdict in ("routed", "duplicate", "conflict", "deadletter"):
            self._events.labels(verdict)  # a series that begins with its first event hides that one
        self._batches = metrics.ROUTER_BATCHES.on(registry)
        self._filter_errors = metrics.ROUTER_FILTER_ERRORS.on(registry)

    def filter_failed(self, subscription: str) -> None:
        """Count an event on which a subscription's filter could not be evaluated."""
        self._filter_errors.labels(subscription).inc()

    def batch_begun(self) -> None:
        """Note that a batch was read."""

    def batch_committed(self, verdicts: Mapping[str, int]) -> None:
        """Count one committed batch."""
        self._batches.inc()
        for verdict, count in verdicts.items():
            self._events.labels(verdict).inc(count)
