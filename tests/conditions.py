"""Waiting on conditions, with a limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], within_s: float = 20.0, what: str = "the condition") -> T:
    """Return the condition's first true value; fails when there is none in time."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {within_s} s; last value: {value!r}")
        pause.wait(0.02)
