"""What stands in a feed beyond its cursor, counted without reading any record twice."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime

from consumers.monitor.deliveries import AGAIN
from schemas.receipts import REACHED_BY
from services.runtime.kafka.port import Record

COUNT_LIMIT = 5000


@dataclass(frozen=True, slots=True)
class Undelivered:
    """What stands in a feed beyond the cursor; ``exact`` tells whether all of it was counted. Times are epoch seconds.

    ``published_s`` is of the first of it, ``overdue`` are those whose legal limit has passed, ``next_due_s`` is the
    earliest limit that has not.
    """

    count: int = 0
    exact: bool = True
    published_s: float | None = None
    overdue: int = 0
    next_due_s: float | None = None


class Tally:
    """The offsets of one feed's events beyond the cursor, at most so many, with when each was published and is due.

    The difference of offsets would lie: the markers of transactions take some. A cursor that went back begins it anew.
    """

    def __init__(self) -> None:
        self._offsets = array("q")
        self._published = array("d")
        self._due = array("d")
        self._cursor = self._counted_to = self._end = self._limited = 0

    def move(self, cursor: int, end: int) -> None:
        """Take note of the cursor and the end: what is before it is delivered."""
        if not self._cursor <= cursor <= self._counted_to or end < self._end:
            self._drop(len(self._offsets))
            self._counted_to = cursor
        self._drop(bisect_left(self._offsets, cursor))
        self._cursor, self._end = cursor, end

    def wanted(self) -> int | None:
        """Return from which offset on events are to be counted; None when nothing is new, or no room is left."""
        return self._counted_to if self._counted_to < self._end and len(self._offsets) < COUNT_LIMIT else None

    def add(self, offset: int, published_s: float, due_s: float | None) -> None:
        """Count an event: the next one beyond what was counted."""
        self._offsets.append(offset)
        self._published.append(published_s)
        self._due.append(math.inf if due_s is None else due_s)
        self._limited += due_s is not None
        self._counted_to = offset + 1

    def reached(self, offset: int) -> None:
        """Note that everything before this offset was read."""
        self._counted_to = max(self._counted_to, offset)

    def undelivered(self, now_s: float) -> Undelivered:
        """Return the count, and the first one's publication."""
        exact = self._counted_to >= self._end
        if not self._offsets:
            return Undelivered(exact=exact)
        waiting = sorted(self._due) if self._limited else self._due
        overdue = bisect_left(waiting, now_s)
        coming = waiting[overdue] if overdue < len(waiting) else math.inf
        return Undelivered(
            count=len(self._offsets),
            exact=exact,
            published_s=self._published[0],
            overdue=overdue,
            next_due_s=None if math.isinf(coming) else coming,
        )

    def _drop(self, count: int) -> None:
        if self._limited:
            self._limited -= sum(not math.isinf(due_s) for due_s in self._due[:count])
        for one in (self._offsets, self._published, self._due):
            del one[:count]


def published_at(record: Record, now: datetime) -> tuple[datetime, bool]:
    """Return when an event was published, and whether it said so in a time with its offset, if it said anything.

    A foreign producer may have given another text, or none; the log's own time stands in for it. What is seen now was
    published before: a clock that is ahead hides no delay. What was put into the feed again counts from now.
    """
    headers = dict(record.headers)
    recorded = headers.get("ce_recordedtime")
    found = _aware(recorded) if recorded is not None else None
    readable = found is not None or recorded is None
    if _text(headers.get(REACHED_BY)) in AGAIN:
        return now, readable
    return min(now, found or datetime.fromtimestamp(record.timestamp / 1000, UTC)), readable


def kind_of(record: Record) -> str:
    """Return an event's type."""
    return _text(dict(record.headers).get("ce_type"))


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")


def _aware(text: bytes) -> datetime | None:
    try:
        found = datetime.fromisoformat(text.decode())
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
