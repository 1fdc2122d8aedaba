"""What the alerter tells of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from consumers.alerter.logs import Logs
from services.alerting.groups import Group
from services.runtime import metrics
from services.runtime.measuring import Collector, CollectorRegistry, Metric


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


class AsideCollector(Collector):
    """Gives what is set aside as the log has it: while Kafka is away as it was last; nothing before all was read."""

    def __init__(self, current: Callable[[], Logs | None]) -> None:
        self._current = current

    def collect(self) -> list[Metric]:
        """Return the figures; an agency that was removed is in them no more."""
        parked, letters = metrics.PARKED_EVENTS.family(), metrics.OPEN_DEAD_LETTERS.family()
        logs = self._current()
        if logs is not None and logs.ready.is_set():
            for agency, number in logs.parked_numbers().items():
                parked.add_metric([agency], number)
            for stage, number in logs.letters().items():
                letters.add_metric([stage], number)
        return [parked, letters]
