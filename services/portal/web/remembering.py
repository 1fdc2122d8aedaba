"""What was read last of a server, kept for while it is away: a page then shows it with its age."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from services.runtime.clock import Clock
from services.runtime.errors import UnavailableError

MOST = 300
"""So many answers are kept, those that were asked for last."""
ALWAYS = timedelta(0)
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
    changed: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class Kept:
    """Keeps answers by a key that names what was asked and who may see it: another key is another's answer."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._places: OrderedDict[Hashable, _Place] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, read: Callable[[], T], fresh: timedelta = ALWAYS) -> Held[T]:
        """Return what ``read`` gives, with its time; while that fails what it gave last.

        What is younger than ``fresh`` is not read again, and is read once for all who ask at the same time. Raises
        UnavailableError where nothing is kept.
        """
        place = self._place(key)
        with place.lock if fresh else nullcontext():
            held, now = place.held, self._clock.now()
            if held is not None and not place.changed and timedelta(0) <= now - held.at < fresh:
                return held
            place.changed = False
            try:
                found = Held(read(), now)
            except UnavailableError as error:
                if held is None:
                    raise
                place.changed = True
                return Held(held.value, held.at, str(error))
            place.held = found
            return found

    def forget(self, key: Hashable) -> None:
        """Let the next reader read anew, after a change; what was read stays for while that fails."""
        self._place(key).changed = True

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
