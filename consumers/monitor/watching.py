"""Keeps the newest snapshot, and while Kafka is away since when and why."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from services.delivery.lag import ProbeLag, Snapshot
from services.runtime.clock import Clock
from services.runtime.errors import UnavailableError


class Watching:
    """Measures again and again. ``measure`` makes one look; it is called in one thread, the rest may be in any."""

    def __init__(self, clock: Clock, probe: Callable[[], ProbeLag], period_s: float) -> None:
        self._clock = clock
        self._probe = probe
        self._period_s = period_s
        self._snapshot: Snapshot | None = None
        self._away: tuple[str, str] | None = None

    @property
    def fresh(self) -> Snapshot | None:
        """Return the newest snapshot; None while Kafka is away, and before the first."""
        return self._snapshot if self._away is None else None

    def latest(self) -> Snapshot | None:
        """Return the newest snapshot with the probe of now, marked while Kafka is away; None before the first."""
        snapshot, away = self._snapshot, self._away
        if snapshot is None:
            return None
        since, why = away or (None, None)
        return replace(snapshot, probe=self._probe(), away_since=since, away_why=why)

    def away_why(self) -> str | None:
        """Return why nothing can be measured now, None where it can."""
        return self._away[1] if self._away else None

    def run(self, measure: Callable[[ProbeLag], Snapshot], stop: threading.Event) -> None:
        """Look every period until ``stop``; raises UnavailableError, after which it may be run again."""
        while not stop.is_set():
            began = self._clock.monotonic()
            try:
                self._snapshot = measure(self._probe())
            except UnavailableError as error:
                self.note_away(error)
                raise
            self._away = None
            stop.wait(max(0.0, self._period_s - (self._clock.monotonic() - began)))

    def note_away(self, error: UnavailableError) -> None:
        """Note that nothing can be measured; the first time stands until it can again."""
        since = self._away[0] if self._away else self._clock.now().isoformat()
        self._away = (since, str(error))
