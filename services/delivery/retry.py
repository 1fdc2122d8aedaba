"""When to try again: exponential backoff with full jitter, never giving up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MAX_DOUBLINGS = 30


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The delays, in seconds: ``base_s`` doubled with every failure up to ``cap_s``, of which a random share is waited.

    Formula: delay = uniform(1/2, 1) x min(cap, base x 2^(failures - 1)), or the receiver's Retry-After where longer.
    """

    base_s: float
    cap_s: float

    def delay_s(self, failures: int, random: Callable[[], float]) -> float:
        """Return how long to wait after so many failures in a row (at least one); ``random`` gives 0..1."""
        return self.longest_s(failures) * (0.5 + random() / 2)

    def longest_s(self, failures: int) -> float:
        """Return the longest delay after so many failures in a row; the shortest is half of it."""
        return min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, MAX_DOUBLINGS))
