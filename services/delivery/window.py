"""The bounded window of one agency's feed: what is open, what has ended, and how far the cursor may move.

Invariants: the cursor never passes an event that has not ended; at most ``size`` events stand between the *committed*
cursor and the newest admitted one, so that a killed process repeats at most these; events of one key are open one at a
time, in feed order.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Entry:
    offset: int
    key: bytes
    ended: bool = False


@dataclass(slots=True)
class Window:
    """Pure bookkeeping; offsets rise but are not contiguous."""

    size: int
    committed: int
    _entries: deque[_Entry] = field(default_factory=deque)
    _by_offset: dict[int, _Entry] = field(default_factory=dict)
    _lanes: dict[bytes, deque[int]] = field(default_factory=dict)

    def room(self) -> int:
        """Return how many more events may be admitted."""
        return self.size - len(self._entries)

    def admit(self, offset: int, key: bytes) -> bool:
        """Take an event in, and tell whether it may be sent at once: no earlier event of its key is open.

        Raises ValueError without room or out of order.
        """
        if self.room() <= 0 or offset < self.committed or (self._entries and offset <= self._entries[-1].offset):
            raise ValueError(f"offset {offset} can't be admitted")
        entry = _Entry(offset, key)
        self._entries.append(entry)
        self._by_offset[offset] = entry
        lane = self._lanes.setdefault(key, deque())
        lane.append(offset)
        return len(lane) == 1

    def end(self, offset: int) -> int | None:
        """Note that an event has ended, and return the offset of its key's next event, which may be sent now."""
        entry = self._by_offset[offset]
        lane = self._lanes[entry.key]
        if lane[0] != offset:
            raise ValueError(f"offset {offset} ended before an earlier event of its key")
        entry.ended = True
        lane.popleft()
        if lane:
            return lane[0]
        del self._lanes[entry.key]
        return None

    def is_open(self, offset: int) -> bool:
        """Tell whether an event was admitted and has not ended."""
        entry = self._by_offset.get(offset)
        return entry is not None and not entry.ended

    def cursor(self) -> int:
        """Return the position below which everything has ended."""
        at = self.committed
        for entry in self._entries:
            if not entry.ended:
                return entry.offset
            at = entry.offset + 1
        return at

    def commit(self, cursor: int) -> None:
        """Note that this cursor is committed; what lies below it makes room."""
        self.committed = max(self.committed, cursor)
        while self._entries and self._entries[0].offset < self.committed:
            del self._by_offset[self._entries.popleft().offset]

    def first_open(self) -> int | None:
        """Return the lowest offset that has not ended."""
        return next((entry.offset for entry in self._entries if not entry.ended), None)
