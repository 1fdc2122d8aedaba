"""Looks that may take long, each from a thread of its own: what one found last, or since when it fails, and why."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

import structlog

from services.runtime.clock import Clock
from services.runtime.errors import UnavailableError

LATE_S = 10.0
"""A look that takes longer has found a server that hangs: it takes connections and answers nobody. One that is seldom
taken has much to do, and as long as it may take between two."""
RETRY_S = 5.0
"""A look that failed is taken again so soon, so that what it tells is of now."""
HANGS = "没有应答 (no answer)"

log = structlog.get_logger()
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Trouble:
    """A look has found nothing since then, and why; ``answered``: what it looks at did answer."""

    since: datetime
    why: str
    answered: bool = False


class Look(Generic[Found]):
    """Looks again and again. ``found`` is what it saw last, None before the first time and while it fails."""

    def __init__(self, name: str, every_s: float, look: Callable[[], Found], clock: Clock) -> None:
        self.name = name
        self.found: Found | None = None
        self._trouble: Trouble | None = None
        self._asked: tuple[float, datetime] | None = None
        self._every_s = every_s
        self._late_s = max(LATE_S, every_s)
        self._look = look
        self._clock = clock

    @property
    def trouble(self) -> Trouble | None:
        """Return since when it fails and why, None while it does not."""
        asked = self._asked
        if self._trouble is None and asked is not None and self._clock.monotonic() - asked[0] > self._late_s:
            return Trouble(asked[1], HANGS)
        return self._trouble

    def start(self, stop: threading.Event) -> None:
        """Look until ``stop``, in the background."""
        threading.Thread(target=self.run, args=(stop,), name=f"look-{self.name}", daemon=True).start()

    def run(self, stop: threading.Event) -> None:
        """Look until ``stop``."""
        while not stop.is_set():
            self.once()
            stop.wait(self._every_s if self._trouble is None else min(self._every_s, RETRY_S))

    def once(self) -> None:
        """Look once; what fails is noted with since when."""
        self._asked = self._clock.monotonic(), self._clock.now()
        try:
            self.found, self._trouble = self._look(), None
        except Exception as error:  # noqa: BLE001  (whatever it is, it is told, and the next look is taken)
            self.found = None
            said = str(error) or type(error).__name__
            if self._trouble is None:
                log.warning("look_failed", look=self.name, error=said)
            since = self._trouble.since if self._trouble else self._clock.now()
            self._trouble = Trouble(since, said[:500], not isinstance(error, UnavailableError | OSError))
        finally:
            self._asked = None
