"""What the poller counts."""

from __future__ import annotations

from collections.abc import Mapping

from services.runtime import metrics
from services.runtime.measuring import CollectorRegistry


class PollerMetrics:
    """Counters of one poller process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rows = metrics.POLLER_ROWS.on(registry)
        self.working = metrics.POLLER_WORKING.on(registry)
        self.rejects = metrics.POLLER_REJECTS.on(registry)
        self.withheld = metrics.POLLER_WITHHELD.on(registry)
        self.looked = metrics.POLLER_LOOKED.on(registry)

    def page_ended(self, outcomes: Mapping[str, int]) -> None:
        """Count the rows of a page."""
        for outcome, number in outcomes.items():
            self._rows.labels(outcome).inc(number)
