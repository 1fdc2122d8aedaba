"""What the alerter tells Prometheus."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.alerting.groups import Group


class AlerterMetrics:
    """Open groups by kind and severity, messages by way, and what waits for Kafka."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._open = Gauge("hongyan_alerts_open", "Open troubles", ["kind", "severity"], registry=registry)
        self.sent = Counter("hongyan_alert_messages", "Messages to people", ["way", "outcome"], registry=registry)
        self._unwritten = Gauge("hongyan_alerter_unwritten", "Records that wait for Kafka", registry=registry)

    def show(self, groups: Iterable[Group], unwritten: int) -> None:
        """Show how things stand."""
        counts = Tally((group.kind, group.severity) for group in groups if group.closed_at is None)
        self._open.clear()
        for (kind, severity), number in counts.items():
            self._open.labels(kind, severity).set(number)
        self._unwritten.set(unwritten)
