"""How a process goes on through outages, and how it stops.

SIGTERM or SIGINT asks, the loop ends its work, and a limit makes sure that it does end.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import TypeVar

import structlog

from services.runtime.errors import UnavailableError
from services.runtime.metrics import INTERRUPTIONS

GRACE_S = 15.0
RETRY_S = 0.5
# An attempt that lasted so long did its work: what ends it is a new outage, and worth telling again.
WORKED_S = 10.0

INTERRUPTED = INTERRUPTIONS.on(None)
"""Counts the outages of this process."""

T = TypeVar("T")


def outlast(
    what: str,
    attempt: Callable[[], T],
    stop: threading.Event,
    *,
    outages: tuple[type[Exception], ...] = (UnavailableError,),
    on_outage: Callable[[], None] | None = None,
    retry_s: float = RETRY_S,
) -> T | None:
    """Attempt until it returns, and return that; None when ``stop`` comes first. Outages are waited for.

    The first error of an outage is told as a warning (``<what>_interrupted``), those that follow at debug level.
    """
    log = structlog.get_logger()
    told = False
    while not stop.is_set():
        began = time.monotonic()
        try:
            return attempt()
        except outages as error:
            if on_outage is not None:
                on_outage()
            told = told and time.monotonic() - began < WORKED_S
            if not told:
                INTERRUPTED.labels(what).inc()
            tell = log.debug if told else log.warning
            tell(f"{what}_interrupted", error=str(error), kind=type(error).__name__)
            told = True
            stop.wait(retry_s)
    return None


def stop_event(grace_s: float = GRACE_S) -> threading.Event:
    """Return an event that SIGTERM and SIGINT set, and SIGHUP (a terminal that was closed) where nohup ignores it not.

    A process still running ``grace_s`` seconds later (a server that it waits for is away) ends with status 1: nothing
    is lost by it, since only finished work was ever committed.
    """
    stop = threading.Event()
    # The handler may only do what takes no lock: the thread that it interrupts may hold the event's own, about to wait.
    asked: SimpleQueue[int] = SimpleQueue()

    def obey() -> None:
        asked.get()
        stop.set()
        time.sleep(grace_s)
        structlog.get_logger().warning("stop_overran", grace_s=grace_s)
        os._exit(1)

    def on_signal(number: int, _frame: FrameType | None) -> None:
        asked.put(number)

    threading.Thread(target=obey, name="stop", daemon=True).start()
    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, on_signal)
    return stop


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt here, in the main thread, at the first SIGTERM, SIGINT or SIGHUP.

    Those that follow are ignored: they must not disturb the clean-up that the first one has begun.
    """
    ending = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        for number in ending:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, on_signal) for number in ending}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
