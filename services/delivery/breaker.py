"""Holding the line: after failures in a row only one event probes the receiver, and the others wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from services.delivery.retry import RetryPolicy


@dataclass(slots=True)
class Breaker:
    """The state of one agency's line. Time is monotonic seconds; ``held_since`` is wall time, for people."""

    policy: RetryPolicy
    hold_after: int
    random: Callable[[], float]
    failures: int = 0
    probe_at: float = 0.0
    held_since: datetime | None = field(default=None)
    why: str | None = None

    @property
    def held(self) -> bool:
        """Tell whether the line is held."""
        return self.held_since is not None

    def succeeded(self) -> bool:
        """Note that the receiver answered; tells whether this opened a held line."""
        opened = self.held
        self.failures, self.probe_at, self.held_since, self.why = 0, 0.0, None, None
        return opened

    def failed(self, reason: str, not_before_s: float, now: float, wall: datetime) -> float:
        """Note a failure and return the delay (seconds) until the next attempt; may hold the line."""
        self.failures += 1
        delay = self.policy.delay_s(self.failures, not_before_s, self.random)
        self.probe_at = max(self.probe_at, now + delay) if not_before_s else now + delay
        if self.held or self.failures >= self.hold_after or not_before_s > 0:
            self.held_since = self.held_since or wall
            self.why = reason
        return delay
