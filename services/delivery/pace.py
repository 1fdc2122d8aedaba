"""A receiver's rate limit: events are spaced evenly, so that no second has more than the rate and one."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(slots=True)
class Pace:
    """When the next events may go, in monotonic seconds: what went last is kept, so that a new rate holds at once."""

    last_at: float = -math.inf
    last_events: int = 0

    def ready_at(self, rate_per_s: float | None) -> float:
        """Return the earliest time of the next request; without a rate that is any time."""
        return self.last_at + self.last_events / rate_per_s if rate_per_s is not None else -math.inf

    def sent(self, events: int, rate_per_s: float | None, now: float) -> None:
        """Note that so many events went in one request."""
        self.last_at, self.last_events = max(self.ready_at(rate_per_s), now), events

    @staticmethod
    def most(rate_per_s: float | None, batch: int) -> int:
        """Return how many events one request may hold: no more than a second may have."""
        return batch if rate_per_s is None else min(batch, max(1, int(rate_per_s)))
