"""When people are told, as values: waits, repetitions that grow, quiet hours. Seconds everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time

from schemas.times import SHANGHAI
from services.runtime.alerts import Severity
from services.runtime.settings import AlertingSettings

RETRY_BASE_S, RETRY_CAP_S = 5.0, 300.0
FAILING_AFTER = 3
"""Failures in a row after which a way of telling people is itself something to tell."""


@dataclass(frozen=True, slots=True)
class Policy:
    """``wait_s``: a warning that ends sooner is not told. ``settle_s``: only what stays over is told as over.

    ``news_s`` lies between two messages of one group, when more goes wrong. ``repeat_s`` is the first repetition's,
    doubled at each further one up to ``repeat_cap_s``. ``quiet``: from and to (Shanghai), when warnings wait.
    """

    wait_s: float = 30.0
    settle_s: float = 60.0
    news_s: float = 300.0
    repeat_s: float = 3600.0
    repeat_cap_s: float = 24 * 3600.0
    quiet: tuple[time, time] | None = None

    def first_wait_s(self, severity: Severity) -> float:
        """Return how long something must stand before anybody is told."""
        return self.wait_s if severity == "warning" else 0.0

    def repeat_after_s(self, told: int) -> float:
        """Return how long after the newest of so many messages the next one is due."""
        return min(self.repeat_s * 2.0 ** min(max(told, 1) - 1, 32), self.repeat_cap_s)

    def is_quiet(self, severity: Severity, now: datetime) -> bool:
        """Tell whether this waits for the morning."""
        if self.quiet is None or severity != "warning":
            return False
        start, end = self.quiet
        at = now.astimezone(SHANGHAI).time()
        return start <= at < end if start <= end else at >= start or at < end


def retry_after_s(failures: int) -> float:
    """Return how long to wait after so many failures in a row; a message is never given up."""
    return min(RETRY_BASE_S * 2.0 ** min(failures - 1, 16), RETRY_CAP_S)


def policy_of(settings: AlertingSettings) -> Policy:
    """Return what the settings say."""
    quiet = settings.quiet_hours
    start, _, end = (quiet or "").partition("-")
    return Policy(
        settings.wait_s,
        settings.settle_s,
        settings.news_s,
        settings.repeat_s,
        settings.repeat_cap_s,
        (time.fromisoformat(start), time.fromisoformat(end)) if quiet else None,
    )
