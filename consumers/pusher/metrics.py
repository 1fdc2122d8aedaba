"""What the pusher counts."""

from __future__ import annotations

from dataclasses import dataclass

from services.runtime import metrics
from services.runtime.measuring import CollectorRegistry, Counter, Histogram


@dataclass(frozen=True, slots=True)
class AgencyMetrics:
    """What is counted of one agency at every attempt: its series, found once."""

    attempts: Counter
    delivered: Counter
    parked: Counter
    seconds: Histogram


class PusherMetrics:
    """Counters of one pusher process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ended = metrics.DELIVERIES.on(registry)
        self._attempts = metrics.DELIVERY_ATTEMPTS.on(registry)
        self._seconds = metrics.DELIVERY_SECONDS.on(registry)
        self._agencies: dict[str, AgencyMetrics] = {}
        self.held = metrics.LINE_HELD.on(registry)
        self.alerts = metrics.ALERTS.on(registry)
        self.lines = metrics.LINES.on(registry)

    def of(self, agency: str) -> AgencyMetrics:
        """Return an agency's series, shown from the beginning: one that begins with its first count hides that."""
        found = self._agencies.get(agency)
        if found is None:
            found = self._agencies[agency] = AgencyMetrics(
                self._attempts.labels(agency),
                self._ended.labels(agency, "delivered"),
                self._ended.labels(agency, "parked"),
                self._seconds.labels(agency),
            )
        return found
