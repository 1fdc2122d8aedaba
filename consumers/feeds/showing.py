"""What of a feed an agency is shown when it pulls: nothing that was stopped, and nothing again as if it still stood."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from consumers.feeds.entry import Entry
from consumers.feeds.superseding import Superseding
from consumers.runner.cursors import Cursors
from services.runtime.clock import Clock
from services.subscriptions.stopping import Stops, grants_of, stopped

CURSOR_S = 1.0
"""For so long an agency's cursor is taken to be where it was; it only ever moves on."""


class Showing:
    """Looks at what was read, before it is given out. Lives in the event loop."""

    def __init__(self, stops: Stops, superseding: Superseding, cursors: Cursors, clock: Clock) -> None:
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
        cursor = await self._cursor(agency)
        if found[0].cursor >= cursor:
            return found
        gone = await self._superseding.of(agency, [entry for entry in found if entry.cursor < cursor])
        return [entry.superseded(gone[entry.cursor]) if entry.cursor in gone else entry for entry in found]

    def moved(self, agency: str) -> None:
        """Look anew where an agency stands."""
        self._known.pop(agency, None)

    async def _cursor(self, agency: str) -> int:
        now = self._clock.monotonic()
        known = self._known.get(agency)
        if known is None or now - known[0] > CURSOR_S:
            known = self._known[agency] = now, await asyncio.to_thread(self._cursors.get, agency)
        return known[1]
