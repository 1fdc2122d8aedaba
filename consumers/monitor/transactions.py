"""Finds the partitions on which a transaction never ends: they look as if nobody lagged, and nobody can read on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from consumers.monitor.groups import Offsets
from services.delivery.lag import OpenTransaction
from services.runtime.kafka.port import Partition

LOOK_S = 10.0
LONG_S = 60.0
"""Above what any may take: its time-out of 30 s, and the 10 s after which the broker next looks for those."""


@dataclass(frozen=True, slots=True)
class _Seen:
    offset: int
    at_s: float
    since: str


@dataclass(slots=True)
class OpenTransactions:
    """What stood open at the last looks, one every 10 seconds; ``log_ends`` asks where the logs really end."""

    log_ends: Callable[[list[Partition]], Offsets]
    _seen: dict[Partition, _Seen] = field(default_factory=dict)
    _found: list[OpenTransaction] | None = None
    _next_s: float = float("-inf")
    _known_s: float | None = None

    def look(self, readable: Offsets, at_s: float, now: datetime) -> list[OpenTransaction] | None:
        """Return what has been open for too long, given how far readers can read; these were asked for before.

        None until it has looked for long enough to tell.
        """
        if at_s < self._next_s:
            return self._found
        self._next_s = at_s + LOOK_S
        self._known_s = at_s + LONG_S if self._known_s is None else self._known_s
        ends = self.log_ends(list(readable))
        before, self._seen = self._seen, {}
        for partition, offset in readable.items():
            if offset < ends.get(partition, 0):
                held = before.get(partition, new := _Seen(offset, at_s, now.isoformat()))
                self._seen[partition] = held if held.offset == offset else new
        if at_s < self._known_s:
            return None
        self._found = [
            OpenTransaction(*partition, seen.offset, ends[partition] - seen.offset, seen.since)
            for partition, seen in sorted(self._seen.items())
            if at_s - seen.at_s >= LONG_S
        ]
        return self._found
