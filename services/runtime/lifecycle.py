"""How a process stops: SIGTERM or SIGINT asks, the loop ends its work, and a limit makes sure that it does end."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

import structlog

GRACE_S = 15.0


def stop_event(grace_s: float = GRACE_S) -> threading.Event:
    """Return an event that SIGTERM and SIGINT set.

    A process still running ``grace_s`` seconds later (a server that it waits for is away) ends with status 1: nothing
    is lost by it, since only finished work was ever committed.
    """
    stop = threading.Event()

    def overdue() -> None:
        structlog.get_logger().warning("stop_overran", grace_s=grace_s)
        os._exit(1)

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            return
        stop.set()
        timer = threading.Timer(grace_s, overdue)
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    return stop
