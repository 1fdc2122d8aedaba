"""Notices that closed months can't be counted from the log any more, and says so while that is so."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from consumers.statistics.metrics import StatisticsMetrics
from services.statistics.figure import Month
from services.statistics.gaps import Gap, gaps_now

log = structlog.get_logger()


class GapWatch:
    """Looks now and then; what it found last is told by the health page and by a metric."""

    def __init__(self, dsn: str, consumer: str, metrics: StatisticsMetrics) -> None:
        self._dsn = dsn
        self._consumer = consumer
        self._metrics = metrics
        self._found: Sequence[Gap] = ()

    def look(self) -> None:
        """Look once; raises DatabaseUnavailableError."""
        found = gaps_now(self._dsn, self._consumer)
        for gap in found:
            if gap not in self._found:
                topic, partition = gap.partition
                log.error("facts_lost", month=str(Month.of_number(gap.month)), topic=topic, partition=partition)
        self._found = found
        self._metrics.lost_months.set(len(self.months()))

    def months(self) -> list[str]:
        """Return the closed months of which the log has not everything any more."""
        return [str(Month.of_number(number)) for number in sorted({gap.month for gap in self._found})]
