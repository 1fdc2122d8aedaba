"""What was read last of a server, kept for while it is away: a page then shows it with its age."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from services.runtime.clock import Clock
from services.runtime.errors import UnavailableError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Held(Generic[T]):
    """A value as it was read ``at``; ``away`` says why it could not be read anew, empty when it is fresh."""

    value: T
    at: datetime
    away: str = ""


class Kept(Generic[T]):
    """Reads when what it has is older than ``fresh``; while that fails it gives what was read last.

    ``away`` tells of a server that is known to be away: nobody waits for it again.
    """

    def __init__(
        self,
        read: Callable[[], T],
        clock: Clock,
        fresh: timedelta = timedelta(0),
        away: Callable[[], UnavailableError | None] = lambda: None,
    ) -> None:
        self._read = read
        self._away = away
        self._clock = clock
        self._fresh = fresh
        self._held: Held[T] | None = None
        self._changed = False
        self._lock = threading.Lock()

    def get(self) -> Held[T]:
        """Return the value with its time; raises UnavailableError where it has never been read."""
        with self._lock:
            held, now = self._held, self._clock.now()
            if held is not None and not self._changed and timedelta(0) <= now - held.at < self._fresh:
                return held
            try:
                known = self._away()
                if known is not None:
                    raise known
                self._held = Held(self._read(), now)
                self._changed = False
            except UnavailableError as error:
                if held is None:
                    raise
                return Held(held.value, held.at, str(error))
            return self._held

    def forget(self) -> None:
        """Let the next reader read anew, after a change; what was read stays for while that fails."""
        self._changed = True
