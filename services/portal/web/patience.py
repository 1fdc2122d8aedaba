"""How long whoever fails to sign in must wait: longer each time, never for ever."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.identity.sign_ins import Failures


@dataclass(frozen=True, slots=True)
class Patience:
    """``free`` failures cost nothing; then ``first``, doubled at each further one up to ``longest``.

    Tries made during a wait are refused unseen and don't count: they make nobody's wait longer.
    """

    free: int
    first: timedelta
    longest: timedelta

    def left(self, failures: Failures | None, now: datetime) -> timedelta:
        """Return how long there still is to wait."""
        if failures is None or failures.failures < self.free:
            return timedelta()
        doubled = min(failures.failures - self.free, 20)
        wait = min(self.first * (1 << doubled), self.longest)
        return max(failures.last_at + wait - now, timedelta())


FORGOTTEN = timedelta(hours=24)
"""After so long without a failure, those before are forgotten."""
OF_ACCOUNT = Patience(5, timedelta(seconds=30), timedelta(minutes=15))
OF_ADDRESS = Patience(30, timedelta(seconds=30), timedelta(minutes=15))
