"""What stands parked and waits for somebody, agency by agency: read from the parking places once; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from services.quarantine.aside import DECIDED
from services.quarantine.parked import REPLAYED
from services.runtime.kafka.port import Partition, Record

Offsets = Mapping[Partition, int]


@dataclass(frozen=True, slots=True)
class Waiting:
    """One parked event that nobody has dealt with: when it was parked (epoch seconds), and why."""

    at_s: float
    why: str


@dataclass(slots=True)
class _Place:
    reached: int = 0
    waiting: dict[int, Waiting] = field(default_factory=dict)


class Parkings:
    """The parking places. What was put back waits no more, and what somebody decided to stop never did."""

    def __init__(self) -> None:
        self._places: dict[Partition, _Place] = {}

    def wanted(self, starts: Offsets, ends: Offsets) -> dict[Partition, int]:
        """Take note of what the places hold, and return from where on each is to be read that holds more.

        What its place holds no longer is forgotten, and so is a place that was made anew.
        """
        self._places = {p: self._places.get(p, _Place()) for p in ends}
        for partition, place in self._places.items():
            if ends[partition] < place.reached:
                place.reached, place.waiting = 0, {}
            place.reached = max(place.reached, starts[partition])
            for gone in [offset for offset in place.waiting if offset < starts[partition]]:
                del place.waiting[gone]
        return {p: place.reached for p, place in self._places.items() if place.reached < ends[p]}

    def take(self, partition: Partition, record: Record) -> bool:
        """Take a record of a place in; there is always room for more."""
        headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
        waiting = self._places[partition].waiting
        if REPLAYED in headers:
            waiting.pop(_offset(headers[REPLAYED]), None)
        elif headers.get(DECIDED) != "1":
            at_s = _seconds(headers.get("hongyan-parked-at", ""), record.timestamp / 1000)
            waiting[record.offset] = Waiting(at_s, headers.get("hongyan-refusal", ""))
        return True

    def reached(self, offsets: Offsets) -> None:
        """Note how far each was read."""
        for partition, offset in offsets.items():
            self._places[partition].reached = offset

    def of(self, place: Partition) -> tuple[int, Waiting | None]:
        """Return how many wait in a place, and the one that was parked last."""
        found = self._places.get(place)
        held = found.waiting if found else {}
        return len(held), max(held.values(), key=lambda one: one.at_s, default=None)


def _offset(text: str) -> int:
    return int(text) if text.isdecimal() else -1


def _seconds(text: str, otherwise: float) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return otherwise
