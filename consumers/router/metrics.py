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
        self._filter_errors = Counter(
            "hongyan_router_filter_errors",
            "Events on which a subscription's filter could not be evaluated, and so did not match",
            labelnames=["subscription"],
            registry=registry,
        )

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
