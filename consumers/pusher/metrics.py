"""What the pusher counts."""

from __future__ import annotations

from services.runtime import metrics
from services.runtime.measuring import CollectorRegistry


class PusherMetrics:
    """Counters of one pusher process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.ended = metrics.DELIVERIES.on(registry)
        self.attempts = metrics.DELIVERY_ATTEMPTS.on(registry)
        self.seconds = metrics.DELIVERY_SECONDS.on(registry)
        self.held = metrics.LINE_HELD.on(registry)
        self.alerts = metrics.ALERTS.on(registry)
        self.lines = metrics.LINES.on(registry)

    def begin(self, agency: str) -> None:
        """Show what is counted of an agency from its beginning: a series that begins with its first one hides that."""
        for outcome in ("delivered", "parked"):
            self.ended.labels(agency, outcome)
        self.attempts.labels(agency)
