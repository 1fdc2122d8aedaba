"""What the pusher counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class PusherMetrics:
    """Counters of one pusher process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.ended = Counter("hongyan_deliveries", "Deliveries that ended", ["agency", "outcome"], registry=registry)
        self.attempts = Counter("hongyan_delivery_attempts", "Attempts made", ["agency"], registry=registry)
        self.seconds = Histogram(
            "hongyan_delivery_seconds",
            "Seconds from publication to 2xx",
            ["agency"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600),
            registry=registry,
        )
        self.held = Gauge("hongyan_line_held", "1 while an agency's line is held", ["agency"], registry=registry)
        self.alerts = Counter(
            "hongyan_alerts", "Alerts raised and closed", ["agency", "kind", "state"], registry=registry
        )
        self.lines = Gauge("hongyan_lines", "Feeds that this process delivers", registry=registry)
