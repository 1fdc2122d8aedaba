"""What the alerter tells of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from services.alerting.groups import Group
from services.runtime import metrics
from services.runtime.measuring import CollectorRegistry


class AlerterMetrics:
    """Open troubles by kind and severity, messages by way, and what waits for Kafka."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._open = metrics.ALERTS_OPEN.on(registry)
        self.sent = metrics.ALERT_MESSAGES.on(registry)
        self._unwritten = metrics.ALERTER_UNWRITTEN.on(registry)

    def show(self, groups: Iterable[Group], unwritten: int) -> None:
        """Show how things stand."""
        counts = Counter((group.kind, group.severity) for group in groups if group.closed_at is None)
        self._open.clear()
        for (kind, severity), number in counts.items():
            self._open.labels(kind, severity).set(number)
        self._unwritten.set(unwritten)
