"""Waiting for something to become true, with a limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal, TypeVar

Found = TypeVar("Found")
POLL_S = 0.02


def eventually(
    condition: Callable[[], Found | Literal[False] | None], within_s: float = 30.0, what: str = "the condition"
) -> Found:
    """Return the first true value of a condition; fails the test when there is none within the limit (seconds)."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {within_s:g} s; last seen: {found!r}")
        pause.wait(POLL_S)
