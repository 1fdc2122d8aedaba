"""Holding the line: after failures in a row only one event probes the receiver, and the others wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.delivery.retry import RetryPolicy

ALARM_S = 10.0
"""So long a line may be held by the receiver's own wish before anybody is told."""


@dataclass(slots=True)
class Breaker:
    """The state of one agency's line. Time is monotonic seconds; what is ``datetime`` is wall time, for people.

    Of attempts that were under way together a failure counts once: one blip of a busy receiver is one failure.
    """

    policy: RetryPolicy
    hold_after: int
    random: Callable[[], float]
    failures: int = 0
    probe_at: float = 0.0
    """When the delay after the last counted failure is over."""
    rest_until: float = 0.0
    """Until when the receiver wishes to be left alone (Retry-After), whatever else its other answers say."""
    rest_until_wall: datetime | None = None
    held_since: datetime | None = None
    why: str | None = None

    @property
    def held(self) -> bool:
        """Tell whether the line is held."""
        return self.held_since is not None

    @property
    def ready_at(self) -> float:
        """Return when a held line may be probed."""
        return max(self.probe_at, self.rest_until)

    def alarming(self, now: float, wall: datetime) -> bool:
        """Tell whether people are to know: by failures in a row, or since it is, or will be, held for long."""
        if self.held_since is None:
            return False
        held_s = (wall - self.held_since).total_seconds()
        return self.failures >= self.hold_after or max(held_s, self.rest_until - now) >= ALARM_S

    def succeeded(self, now: float) -> bool:
        """Note that the receiver answered; tells whether this opened a held line.

        While the receiver wishes to be left alone this is the answer to an older attempt, and changes nothing.
        """
        if now < self.rest_until:
            return False
        opened = self.held
        self.failures, self.held_since, self.why = 0, None, None
        self.forget_times()
        return opened

    def failed(self, reason: str, not_before_s: float, began: float, now: float, wall: datetime) -> float:
        """Note that an attempt begun then has failed; return when to make the next one. May hold the line."""
        if began >= self.probe_at:
            self.failures += 1
            self.probe_at = now + self.policy.delay_s(self.failures, self.random)
        if now + not_before_s > max(self.rest_until, now):
            self.rest_until, self.rest_until_wall = now + not_before_s, wall + timedelta(seconds=not_before_s)
        if self.held or self.failures >= self.hold_after or not_before_s > 0:
            self.held_since = self.held_since or wall
            self.why = reason
        if self.ready_at > now:
            return self.ready_at
        return now + self.policy.delay_s(max(1, self.failures), self.random)

    def forget_times(self) -> None:
        """Let the next attempt be made at once: it goes elsewhere, or all is well again."""
        self.probe_at, self.rest_until, self.rest_until_wall = 0.0, 0.0, None
