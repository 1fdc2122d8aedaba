"""What stands in a feed beyond its cursor, counted without reading any record twice."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from consumers.monitor.snapshot import Undelivered
from services.runtime.kafka.port import Record

COUNT_LIMIT = 5000


class Tally:
    """The offsets of one feed's events beyond the cursor, at most so many.

    The difference of offsets would lie: the markers of transactions take some. A cursor that went back begins it anew.
    """

    def __init__(self) -> None:
        self._offsets = array("q")
        self._cursor = self._counted_to = 0
        self._oldest: tuple[int, datetime] | None = None

    def move(self, cursor: int) -> None:
        """Take note of the cursor: what is before it is delivered."""
        if not self._cursor <= cursor <= self._counted_to:
            del self._offsets[:]
            self._counted_to = cursor
        del self._offsets[: bisect_left(self._offsets, cursor)]
        self._cursor = cursor

    def wanted(self, end: int) -> tuple[int, int] | None:
        """Return from which offset on and how many records are to be counted; None when nothing is new."""
        room = COUNT_LIMIT - len(self._offsets)
        return (self._counted_to, room) if self._counted_to < end and room > 0 else None

    def count(self, offsets: Iterable[int], end: int) -> None:
        """Add what was read; unless all the room was taken, the end was reached."""
        self._offsets.extend(offsets)
        full = len(self._offsets) >= COUNT_LIMIT
        self._counted_to = self._offsets[-1] + 1 if full else end

    def undelivered(self, published: Callable[[int], datetime]) -> Undelivered:
        """Return the count, and when the oldest was published, asked for once as long as it is the oldest."""
        if not self._offsets:
            return Undelivered()
        first = self._offsets[0]
        if self._oldest is None or self._oldest[0] != first:
            self._oldest = (first, published(first))
        return Undelivered(len(self._offsets), len(self._offsets) < COUNT_LIMIT, self._oldest[1])


def published_at(record: Record) -> tuple[datetime, bool]:
    """Return when an event was published, and whether it said so in a time with its offset, if it said anything.

    A foreign producer may have given another text, or none; the log's own time stands in for it.
    """
    recorded = dict(record.headers).get("ce_recordedtime")
    found = _aware(recorded) if recorded is not None else None
    if found is not None:
        return found, True
    return datetime.fromtimestamp(record.timestamp / 1000, UTC), recorded is None


def _aware(text: bytes) -> datetime | None:
    try:
        found = datetime.fromisoformat(text.decode())
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
