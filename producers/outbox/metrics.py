"""What the relay counts."""

from __future__ import annotations

from services.runtime import metrics
from services.runtime.measuring import CollectorRegistry


class RelayMetrics:
    """Counters of one relay process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rows = metrics.RELAY_ROWS.on(registry)
        self._batches = metrics.RELAY_BATCHES.on(registry)
        self.working = metrics.RELAY_WORKING.on(registry)

    def batch_ended(self, sent: int, rejected: int) -> None:
        """Count one batch."""
        self._batches.inc(bool(sent))
        self._rows.labels("sent").inc(sent)
        self._rows.labels("rejected").inc(rejected)
