"""What of a feed an agency is shown when it pulls: nothing that was stopped, and nothing again as if it still stood."""

from __future__ import annotations

from collections.abc import Sequence

from consumers.feeds.asking import Asking
from consumers.feeds.entry import Entry
from consumers.feeds.superseding import Superseding
from services.runtime.clock import Clock
from services.subscriptions.stopping import Stops, grants_of, stopped

CURSOR_S = 1.0
"""For so long an agency's cursor is taken to be where it was; it only ever moves on."""
FRESH_MS = 2000
"""What was published so short a time ago is read for the first time, unless the agency has just said otherwise."""


class Showing:
    """Looks at what was read, before it is given out. Lives in the event loop."""

    def __init__(self, stops: Stops, superseding: Superseding, cursors: Asking, clock: Clock) -> None:
        self._stops = stops
        self._superseding = superseding
        self._cursors = cursors
        self._clock = clock
        self._known: dict[str, tuple[float, int]] = {}

    def stopped(self, agency: str, entry: Entry) -> str | None:
        """Return why an event is not given out: every grant that it came by was stopped."""
        stops = self._stops.of(agency)
        return stopped(grants_of(entry.record.headers), stops) if stops else None

    def allowed(self, agency: str, entries: Sequence[Entry]) -> list[Entry]:
        """Return those that were not stopped."""
        return [entry for entry in entries if self.stopped(agency, entry) is None]

    async def of(self, agency: str, entries: Sequence[Entry]) -> list[Entry]:
        """Return what is shown of these. What the agency had before is told by name only where it stands no longer."""
        found = self.allowed(agency, entries)
        if not found:
            return found
        cursor = await self._cursor(agency, found)
        if found[0].cursor >= cursor:
            return found
        gone = await self._superseding.of(agency, [entry for entry in found if entry.cursor < cursor])
        return [entry.superseded(gone[entry.cursor]) if entry.cursor in gone else entry for entry in found]

    def moved(self, agency: str, cursor: int) -> None:
        """Take in where an agency stands now."""
        self._known[agency] = self._clock.monotonic(), cursor

    async def _cursor(self, agency: str, entries: Sequence[Entry]) -> int:
        """Return where an agency stands, as far as these events ask for it: whoever follows its feed asks nobody."""
        now = self._clock.monotonic()
        at, cursor = self._known.get(agency, (-CURSOR_S, 0))
        if entries[0].cursor >= cursor and self._fresh(entries):
            return cursor
        if now - at >= CURSOR_S:
            cursor = await self._cursors.get(agency)
            self._known[agency] = now, cursor
        return cursor

    def _fresh(self, entries: Sequence[Entry]) -> bool:
        now = self._clock.now().timestamp() * 1000
        return all(0 <= now - entry.record.timestamp < FRESH_MS for entry in entries)
