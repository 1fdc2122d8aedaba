"""What the relay counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class RelayMetrics:
    """Counters of one relay process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rows = Counter("hongyan_relay_rows", "Rows by outcome", labelnames=["outcome"], registry=registry)
        self._batches = Counter("hongyan_relay_batches", "Committed transactions", registry=registry)
        self.working = Gauge(
            "hongyan_relay_working", "1 while it has the table's lock and all it needs", registry=registry
        )

    def batch_ended(self, sent: int, rejected: int) -> None:
        """Count one batch."""
        self._batches.inc(bool(sent))
        self._rows.labels("sent").inc(sent)
        self._rows.labels("rejected").inc(rejected)
