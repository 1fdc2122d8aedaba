"""How far something long is, and whether it has to end: told by whoever does it, asked by whoever waits."""

from __future__ import annotations

from collections.abc import Callable


class Progress:
    """Counts what is done of a whole. It is written by one thread and read by others."""

    def __init__(self, stopped: Callable[[], bool] = lambda: False) -> None:
        self.whole = 0
        self.done = 0
        self._stopped = stopped

    def sized(self, whole: int) -> None:
        """Add to what there is to do."""
        self.whole += whole

    def step(self) -> bool:
        """Count one more as done; tell whether to go on."""
        self.done += 1
        return self.done % 256 != 0 or not self._stopped()

    @property
    def percent(self) -> int | None:
        """Return how many per cent are done, None while nobody knows how much there is."""
        return min(100, self.done * 100 // self.whole) if self.whole else None
