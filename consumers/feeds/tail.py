"""The newest events of one feed in memory, shared by all who wait for more. Everything runs in one event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import takewhile

from consumers.feeds.entry import Entry


class Tail:
    """Holds everything from ``start`` on, up to a number of events and bytes; older ones are read from the log.

    ``following`` is the offset that comes next. It never grows with the number of readers: each keeps a cursor, and a
    reader too slow for the tail goes on from the log.
    """

    def __init__(self, start: int, max_events: int, max_bytes: int, now: float) -> None:
        self.start = start
        self.following = start
        self.read_at = now
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._grown = asyncio.Event()

    @property
    def bytes(self) -> int:
        """Return how much it holds."""
        return self._bytes

    def append(self, entries: Sequence[Entry]) -> None:
        """Take in what came, in order, let the oldest go, and wake all who wait."""
        for entry in entries:
            if entry.cursor < self.following:
                continue  # read twice, after an outage
            self._entries.append(entry)
            self._bytes += entry.size
            self.following = entry.cursor + 1
        while len(self._entries) > self._max_events or (self._bytes > self._max_bytes and len(self._entries) > 1):
            oldest = self._entries.popleft()
            self._bytes -= oldest.size
            self.start = oldest.cursor + 1
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    def after(self, cursor: int, limit: int) -> list[Entry]:
        """Return the first events beyond a cursor that is not older than ``start - 1``."""
        newer = list(takewhile(lambda entry: entry.cursor > cursor, reversed(self._entries)))
        return newer[::-1][:limit]

    async def grow(self, within_s: float) -> None:
        """Wait until something comes, or the time is over."""
        try:
            await asyncio.wait_for(self._grown.wait(), within_s)
        except TimeoutError:
            return
