"""How much of the past a router may take on now: a token bucket, and next to nothing beside live work."""

from __future__ import annotations

from dataclasses import dataclass

BESIDE_S = 0.001
BESIDE_EVERY_S = 0.1
"""Beside live work a piece makes its transaction longer: few of them, so that nearly every live event has none."""
QUIET_S = 0.05
"""A transaction of its own delays what comes live meanwhile: only when nothing live has come for so long."""
BEHIND_S = 1.0
"""A router that is behind with live work still does a little of a backfill so often."""
SMOOTH = 0.2


@dataclass(slots=True)
class Pace:
    """Past events at so many a second, in pieces of ``chunk`` at most; beside live work a piece takes BESIDE_S, now and
    then.

    Times are monotonic seconds. ``cost_s`` is what an event has taken of late.
    """

    per_s: float
    chunk: int
    tokens: float = 0.0
    at: float = 0.0
    taken_at: float = 0.0
    live_at: float = 0.0
    cost_s: float = BESIDE_S / 4

    def __post_init__(self) -> None:
        self.chunk = max(1, min(self.chunk, int(self.per_s)))
        self.tokens = self.chunk

    def allows(self, now: float, *, beside: bool, behind: bool) -> int:
        """Return how many past events may be taken on now.

        ``beside``: live events are waiting for the same transaction. ``behind``: more of them than one takes.
        """
        self._fill(now)
        if beside:
            self.live_at = now
        if behind and now - self.taken_at < BEHIND_S:
            return 0
        if beside:
            if now - self.taken_at < BESIDE_EVERY_S:
                return 0
            return min(int(self.tokens), self.chunk, max(1, int(BESIDE_S / self.cost_s)))
        return self.chunk if self.due_in(now) == 0 else 0

    def due_in(self, now: float) -> float:
        """Return the seconds until a whole piece may be taken on with nothing live."""
        self._fill(now)
        return max(0.0, (self.chunk - self.tokens) / self.per_s, self.live_at + QUIET_S - now)

    def took(self, events: int, seconds: float, now: float) -> None:
        """Note what was taken on, and how long it took to route."""
        self.tokens -= max(1, events)
        self.taken_at = now
        if events:
            self.cost_s += SMOOTH * (max(seconds / events, 1e-6) - self.cost_s)

    def _fill(self, now: float) -> None:
        self.tokens = min(2.0 * self.chunk, self.tokens + (now - self.at) * self.per_s)
        self.at = now
