"""A receiver's rate limit: events are spaced evenly, so that no second has more than the rate and one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Pace:
    """When the next event may go, in monotonic seconds."""

    next_at: float = 0.0

    def ready_at(self, rate_per_s: float | None) -> float:
        """Return the earliest time of the next event; without a rate that is any time."""
        return self.next_at if rate_per_s is not None else 0.0

    def sent(self, events: int, rate_per_s: float | None, now: float) -> None:
        """Note that so many events went."""
        if rate_per_s is not None:
            self.next_at = max(self.next_at, now) + events / rate_per_s
