"""An event loop whose time jumps to the next timer: hours of waiting pass in a moment, in the same order."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2025, 12, 1, tzinfo=UTC)


class VirtualClock:
    """A clock that the loop moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        """Return the wall time."""
        return START + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        """Return the seconds since the start."""
        return self.seconds


class _Jumping(selectors.SelectSelector):
    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing is left that could ever happen")
        self._clock.seconds += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs on a virtual clock."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(_Jumping(clock))
        self._virtual = clock

    def time(self) -> float:
        """Return the virtual time."""
        return self._virtual.seconds


def run(clock: VirtualClock, main: Coroutine[Any, Any, None]) -> None:
    """Run to the end on a virtual clock; raises RuntimeError when it waits for what can never come."""
    loop = VirtualLoop(clock)
    try:
        loop.run_until_complete(main)
    finally:
        loop.close()
