"""Looks that may take long, each from a thread of its own: what one found last, or since when it fails, and why."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

import structlog

from services.runtime.clock import Clock
from services.runtime.errors import HongyanError

log = structlog.get_logger()
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Trouble:
    """A look has found nothing since then, and why."""

    since: datetime
    why: str


class Look(Generic[Found]):
    """Looks again and again. ``found`` is what it saw last, None before the first time and while it fails."""

    def __init__(self, name: str, every_s: float, look: Callable[[], Found], clock: Clock) -> None:
        self.name = name
        self.found: Found | None = None
        self.trouble: Trouble | None = None
        self._every_s = every_s
        self._look = look
        self._clock = clock

    def start(self, stop: threading.Event) -> None:
        """Look until ``stop``, in the background."""
        threading.Thread(target=self.run, args=(stop,), name=f"look-{self.name}", daemon=True).start()

    def run(self, stop: threading.Event) -> None:
        """Look until ``stop``."""
        while not stop.is_set():
            self.once()
            stop.wait(self._every_s)

    def once(self) -> None:
        """Look once; what fails is noted with since when."""
        try:
            self.found, self.trouble = self._look(), None
        except (HongyanError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self.found = None
            said = str(error) or type(error).__name__
            if self.trouble is None:
                log.warning("look_failed", look=self.name, error=said)
            self.trouble = Trouble(self.trouble.since if self.trouble else self._clock.now(), said[:500])
