"""``hongyan top``: everyone's lag at a terminal, live until ``q``."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from consumers.monitor.asking import MonitorAwayError, untold
from consumers.monitor.showing import print_snapshot, show
from services.delivery.lag import Snapshot

KEYS = "q 退出 (quit)   a 全部消费组 (all groups)"
AGENCY_LINES = 14
"""What else needs lines on the screen: head, frames, groups, keys."""


def watch(ask: Callable[[], Snapshot], console: Console, period_s: float) -> None:
    """Show the newest snapshot until ``q`` or ctrl-C; printed once where there is no terminal.

    Raises MonitorAwayError when there is none to begin with; later the last figures stand, with why, and no state.
    """
    snapshot, trouble, every = ask(), "", False
    if not (console.is_terminal and sys.stdin.isatty()):
        print_snapshot(snapshot, console)
        return
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        asked_at = time.monotonic()
        while True:
            live.update(_page(snapshot, console, trouble, every=every), refresh=True)
            key = pressed(max(0.0, period_s - (time.monotonic() - asked_at)))
            if key in {"q", "Q", "\x03"}:
                return
            every ^= key in {"a", "A"}
            if time.monotonic() - asked_at >= period_s:
                asked_at = time.monotonic()
                try:
                    snapshot, trouble = ask(), ""
                except MonitorAwayError as error:
                    trouble = str(error)
                    snapshot = untold(snapshot, trouble)


def _page(snapshot: Snapshot, console: Console, trouble: str, *, every: bool) -> RenderableType:
    parts: list[RenderableType] = []
    if trouble:
        parts.append(Text(f"{trouble}；以下是此前的 (these are the last figures)", style="bold red"))
    parts.extend(show(snapshot, console.width, every=every, most=max(3, console.height - AGENCY_LINES)))
    return Group(*parts, Text(KEYS, style="dim"))


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Give a function that waits for a key, at most so many seconds, and returns it, or nothing."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def pressed(timeout_s: float) -> str:
        ready, _, _ = select.select([terminal], [], [], timeout_s)
        return os.read(terminal, 1).decode(errors="replace") if ready else ""

    tty.setcbreak(terminal)
    try:
        yield pressed
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
