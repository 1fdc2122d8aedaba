"""What was read last of a server, kept for while it is away: a page then shows it with its age."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from services.runtime.clock import Clock
from services.runtime.errors import UnavailableError

MOST = 300
"""So many answers are kept, those that were asked for last."""
ALWAYS = timedelta(0)
PATIENT_S = 1.0
"""So long somebody waits for what another is reading just now; then what was read last has to do."""
SLOW = "读取较慢 (reading takes long)"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Held(Generic[T]):
    """A value as it was read ``at``; ``away`` says why it could not be read anew, empty when it is fresh."""

    value: T
    at: datetime
    away: str = ""


@dataclass(slots=True)
class _Place:
    held: Held[Any] | None = None
    changes: int = 0
    read_at_change: int = 0
    begun_s: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Kept:
    """Keeps answers by a key that names what was asked and who may see it: another key is another's answer."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._places: OrderedDict[Hashable, _Place] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, read: Callable[[], T], fresh: timedelta = ALWAYS) -> Held[T]:
        """Return what ``read`` gives, with its time; while that fails what it gave last.

        What is younger than ``fresh`` is not read again, and is read once for all who ask at the same time; a reading
        that takes long holds up nobody else for more than a second. Raises UnavailableError where nothing is kept.
        """
        place = self._place(key)
        if not fresh:
            return self._read(place, read)
        if not place.lock.acquire(timeout=self._patience_s(place)):
            held = place.held
            if held is None:
                raise UnavailableError(SLOW)
            return replace(held, away=SLOW)
        place.begun_s = self._clock.monotonic()
        try:
            held = place.held
            fits = held is not None and place.read_at_change == place.changes
            if held is not None and fits and timedelta(0) <= self._clock.now() - held.at < fresh:
                return held
            return self._read(place, read)
        finally:
            place.begun_s = None
            place.lock.release()

    def forget(self, key: Hashable) -> None:
        """Let the next reader read anew, after a change; what was read stays for while that fails."""
        self._place(key).changes += 1

    def _patience_s(self, place: _Place) -> float:
        """Return for how long to wait for whoever may be reading: not at all once it is known to take long."""
        begun_s = place.begun_s
        left_s = PATIENT_S if begun_s is None else begun_s + PATIENT_S - self._clock.monotonic()
        return max(0.0, min(PATIENT_S, left_s))

    def _read(self, place: _Place, read: Callable[[], T]) -> Held[T]:
        held, now, changes = place.held, self._clock.now(), place.changes
        try:
            found = Held(read(), now)
        except UnavailableError as error:
            if held is None:
                raise
            return Held(held.value, held.at, str(error))
        place.held, place.read_at_change = found, changes
        return found

    def _place(self, key: Hashable) -> _Place:
        with self._lock:
            place = self._places.setdefault(key, _Place())
            self._places.move_to_end(key)
            while len(self._places) > MOST:
                self._places.popitem(last=False)
            return place


def kept_or_none(get: Callable[[], Held[T]]) -> Held[T] | None:
    """Return what is held, None where it was never read: for a part of a page that stands without it."""
    try:
        return get()
    except UnavailableError:
        return None
