"""Which server is away, and since when: what every page says at its top, and what nothing waits for meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from services.runtime.clock import Clock
from services.runtime.errors import DatabaseUnavailableError, KafkaUnavailableError, UnavailableError

DATABASE, KAFKA = "PostgreSQL", "Kafka"
LOOK_S = 1.0
LATE_S = 3.0
"""A server that takes longer to answer hangs: it is away like one that refuses."""


@dataclass(frozen=True, slots=True)
class Away:
    """A server that does not answer, since when, and what it said."""

    name: str
    since: datetime
    why: str = ""


@dataclass(slots=True)
class _Watched:
    """A server that is looked at: when it last answered, and since when (monotonic) it owes an answer."""

    answers: Callable[[], bool]
    last: datetime
    sever: Callable[[], None]
    asked: float | None = None
    severed: bool = False


class Outages:
    """Looks at the servers again and again, at each from a thread of its own: one that hangs hides no other."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._watched: dict[str, _Watched] = {}
        self._away: dict[str, Away] = {}

    def watch(self, name: str, answers: Callable[[], bool], sever: Callable[[], None] = lambda: None) -> None:
        """Look at a server each second; it is away since it last answered.

        When it hangs ``sever`` is called once, so that those fail who wait for it.
        """
        self._watched[name] = _Watched(answers, self._clock.now(), sever)

    def missed(self, name: str, why: str) -> None:
        """Note that a server did not answer just now."""
        known = self._watched.get(name)
        self._away.setdefault(name, Away(name, known.last if known else self._clock.now(), why))

    def is_away(self, name: str) -> bool:
        """Tell whether a server is known to be away, or owes an answer for too long."""
        known = self._watched.get(name)
        asked = known.asked if known is not None else None
        if known is not None and asked is not None and self._clock.monotonic() - asked > LATE_S and not known.severed:
            known.severed = True
            self.missed(name, "")
            known.sever()
        return name in self._away

    def check(self, name: str) -> None:
        """Raise UnavailableError while a server is away: nobody waits for it then."""
        if self.is_away(name):
            raise _ERRORS.get(name, UnavailableError)(f"{name} 没有应答 ({name} does not answer)")

    def away(self) -> Sequence[Away]:
        """Return every server that is away."""
        found = (self._away.get(name) for name in self._watched if self.is_away(name))
        return [one for one in found if one is not None]

    def look(self, name: str) -> None:
        """Look once at a server."""
        watched = self._watched[name]
        watched.asked = self._clock.monotonic()
        answered = watched.answers()
        watched.asked = None
        if answered:
            watched.last, watched.severed = self._clock.now(), False
            self._away.pop(name, None)
        else:
            self.missed(name, "")

    def start(self, stop: threading.Event) -> None:
        """Look at every server until told to stop."""
        for name in self._watched:
            look = partial(self.look, name)
            threading.Thread(target=_again, args=(look, stop), name=f"look-{name}", daemon=True).start()
        threading.Thread(target=_again, args=(self.away, stop), name="look-late", daemon=True).start()


def _again(look: Callable[[], object], stop: threading.Event) -> None:
    while not stop.wait(LOOK_S):
        look()


_ERRORS: dict[str, type[UnavailableError]] = {DATABASE: DatabaseUnavailableError, KAFKA: KafkaUnavailableError}
