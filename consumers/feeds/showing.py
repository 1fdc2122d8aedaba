"""What of a feed an agency is shown when it pulls: nothing that was stopped, and nothing again as if it still stood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from consumers.feeds.asking import Asking
from consumers.feeds.entry import Entry
from consumers.feeds.superseding import Superseding
from consumers.feeds.withholding import Withholding
from schemas.receipts import Channel
from services.delivery.cursors import UndecidedError
from services.runtime.clock import Clock
from services.subscriptions.stopping import Stops, grants_of, stopped

CURSOR_S = 1.0
"""For so long an agency's cursor is taken to be where it was; it only ever moves on."""
FRESH_MS = 2000
"""What was published so short a time ago is read for the first time, unless the agency has just said otherwise."""


class Showing:
    """Looks at what was read, before it is given out. Lives in the event loop."""

    def __init__(
        self, stops: Stops, superseding: Superseding, withholding: Withholding, cursors: Asking, clock: Clock
    ) -> None:
        self._stops = stops
        self._superseding = superseding
        self._withholding = withholding
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

    async def of(self, agency: str, entries: Sequence[Entry], channel: Channel = "pull") -> list[Entry]:
        """Return what is shown of these. What the agency had before is told by name only where it stands no longer.

        What is kept back from an agency that pulls is parked by then: the cursor that it is told passes it.
        """
        stopped: dict[int, str] = {}
        # While these are parked others may be stopped.
        while more := self._stopped(agency, [entry for entry in entries if entry.cursor not in stopped]):
            stopped |= more
            if channel == "pull":
                await self._park(agency, entries, more)
        found = [entry for entry in entries if entry.cursor not in stopped]
        if not found:
            return found
        cursor = await self._cursor(agency, found)
        if found[0].cursor >= cursor:
            return found
        gone = await self._superseding.of(agency, [entry for entry in found if entry.cursor < cursor])
        return [entry.superseded(gone[entry.cursor]) if entry.cursor in gone else entry for entry in found]

    async def withheld(self, agency: str, entries: Sequence[Entry], channel: Channel, cursor: int) -> set[int]:
        """Return the cursors of those that were not given out: stopped by now, or when they would have been shown.

        Of an agency that pulls, what it has not taken yet (from ``cursor`` on) is parked by then.
        """
        if not entries:
            return set()
        stopped = self._stopped(agency, entries)
        if channel == "pull":
            await self._park(agency, entries, stopped, cursor)
        return stopped.keys() | await self._withholding.parked(agency, entries)

    def _stopped(self, agency: str, entries: Sequence[Entry]) -> dict[int, str]:
        if not self._stops.of(agency):
            return {}
        found = {entry.cursor: self.stopped(agency, entry) for entry in entries}
        return {cursor: why for cursor, why in found.items() if why is not None}

    async def _park(
        self, agency: str, entries: Sequence[Entry], stopped: Mapping[int, str], cursor: int | None = None
    ) -> None:
        """Park what was stopped, unless the agency has taken it before."""
        if stopped:
            start = await self._taken(agency) if cursor is None else cursor
            kept = [(entry, stopped[entry.cursor]) for entry in entries if entry.cursor in stopped]
            await self._withholding.park(agency, [(entry, why) for entry, why in kept if entry.cursor >= start])

    async def _taken(self, agency: str) -> int:
        """Return where an agency stands, asked anew; raises HandoverError: what a pusher passes is the pusher's."""
        try:
            return await self._cursors.handed_over(agency)
        except UndecidedError:
            return 0  # it may be decided that it goes on from anywhere

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
