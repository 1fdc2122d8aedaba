"""What stands parked and waits for somebody, agency by agency: read from the parking places once; pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from math import isnan, nan

from services.quarantine.aside import DECIDED
from services.quarantine.parked import REPLAYED
from services.runtime.kafka.port import Partition, Record

MOST_REASONS = 1000
"""How many reasons are kept apart in a place; receivers answer with few."""
MANY_REASONS = "原因见停放的事件 (see the parked event for why)"

Offsets = Mapping[Partition, int]


@dataclass(frozen=True, slots=True)
class Waiting:
    """One parked event that nobody has dealt with: when it was parked (epoch seconds), and why."""

    at_s: float
    why: str


class _Place:
    """What waits in one place, in the log's order: an agency may refuse millions, so each costs 18 bytes and no look
    goes through them.
    """

    def __init__(self) -> None:
        self.reached = 0
        self._offsets, self._times, self._whys = array("q"), array("d"), array("H")
        self._reasons: dict[str, int] = {}
        self._names = [MANY_REASONS]
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def add(self, offset: int, at_s: float, why: str) -> None:
        """Take an event in; one that was read before is there."""
        if self._offsets and offset <= self._offsets[-1]:
            return
        known = self._reasons.get(why)
        if known is None:
            known = 0
            if len(self._names) < MOST_REASONS:
                known = self._reasons[why] = len(self._names)
                self._names.append(why)
        self._offsets.append(offset)
        self._times.append(at_s)
        self._whys.append(known)
        self._waiting += 1

    def remove(self, offset: int) -> None:
        """Have an event wait no more, if it does."""
        at = bisect_left(self._offsets, offset)
        if at == len(self._offsets) or self._offsets[at] != offset or isnan(self._times[at]):
            return
        self._times[at] = nan
        self._waiting -= 1
        while self._times and isnan(self._times[-1]):  # so that the newest is always the last
            for column in (self._offsets, self._times, self._whys):
                column.pop()

    def forget_before(self, start: int) -> None:
        """Forget what the place holds no longer."""
        gone = bisect_left(self._offsets, start)
        if gone:
            self._waiting -= sum(not isnan(at_s) for at_s in self._times[:gone])
            for column in (self._offsets, self._times, self._whys):
                del column[:gone]

    def newest(self) -> Waiting | None:
        """Return the event that was parked last."""
        return Waiting(self._times[-1], self._names[self._whys[-1]]) if self._waiting else None


class Parkings:
    """The parking places. What was put back waits no more, and what somebody decided to stop never did."""

    def __init__(self) -> None:
        self._places: dict[Partition, _Place] = {}

    def wanted(self, starts: Offsets, ends: Offsets) -> dict[Partition, int]:
        """Take note of what the places hold, and return from where on each is to be read that holds more.

        What its place holds no longer is forgotten, and so is a place that was made anew.
        """
        held, self._places = self._places, {}
        for partition, end in ends.items():
            known = held.get(partition)
            place = known if known is not None and known.reached <= end else _Place()
            place.reached = max(place.reached, starts[partition])
            place.forget_before(starts[partition])
            self._places[partition] = place
        return {p: place.reached for p, place in self._places.items() if place.reached < ends[p]}

    def take(self, partition: Partition, record: Record) -> bool:
        """Take a record of a place in; there is always room for more."""
        headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
        place = self._places[partition]
        if REPLAYED in headers:
            place.remove(_offset(headers[REPLAYED]))
        elif headers.get(DECIDED) != "1":
            at_s = _seconds(headers.get("hongyan-parked-at", ""), record.timestamp / 1000)
            place.add(record.offset, at_s, headers.get("hongyan-refusal", ""))
        return True

    def reached(self, offsets: Offsets) -> None:
        """Note how far each was read."""
        for partition, offset in offsets.items():
            self._places[partition].reached = offset

    def of(self, place: Partition) -> tuple[int, Waiting | None]:
        """Return how many wait in a place, and the one that was parked last."""
        found = self._places.get(place)
        return (len(found), found.newest()) if found is not None else (0, None)


def _offset(text: str) -> int:
    return int(text) if text.isdecimal() else -1


def _seconds(text: str, otherwise: float) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return otherwise
