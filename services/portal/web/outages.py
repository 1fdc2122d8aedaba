"""Which server is away, and since when: what every page says at its top."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.runtime.clock import Clock

LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Away:
    """A server that does not answer, since when, and what it said."""

    name: str
    since: datetime
    why: str = ""


class Outages:
    """Looks at the servers again and again, from a thread of its own."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._probes: dict[str, Callable[[], Away | None]] = {}
        self._answering: dict[str, Callable[[], bool]] = {}
        self._last: dict[str, datetime] = {}
        self._away: dict[str, Away] = {}

    def add(self, name: str, probe: Callable[[], Away | None]) -> None:
        """Ask a probe that knows by itself since when its server is away."""
        self._probes[name] = probe

    def watch(self, name: str, answers: Callable[[], bool]) -> None:
        """Look at a server each second; it is away since it last answered."""
        self._answering[name] = answers
        self._last[name] = self._clock.now()

    def missed(self, name: str, why: str) -> None:
        """Note that a server did not answer just now."""
        self._away.setdefault(name, Away(name, self._last.get(name, self._clock.now()), why))

    def is_away(self, name: str) -> bool:
        """Tell whether a server is known to be away."""
        return name in self._away

    def away(self) -> Sequence[Away]:
        """Return every server that is away."""
        asked = (probe() for name, probe in self._probes.items() if name not in self._away)
        return [*self._away.values(), *(found for found in asked if found is not None)]

    def look(self) -> None:
        """Look once at every server."""
        for name, answers in self._answering.items():
            if answers():
                self._last[name] = self._clock.now()
                self._away.pop(name, None)
            else:
                self.missed(name, "")

    def run(self, stop: threading.Event) -> None:
        """Look until told to stop."""
        while not stop.wait(LOOK_S):
            self.look()
