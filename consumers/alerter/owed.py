"""Looks at who owes an acknowledgement: once through the whole ledger, then as far back as one is open."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import structlog

from schemas.contracts import Contracts
from services.alerting.rules import FollowUp
from services.ledger.deadlines import deadline_of
from services.ledger.reading import FOLLOW_UP_WINDOW, LedgerReader, SearchTooWideError
from services.runtime.clock import Clock

WHOLE_MS, LATER_MS = 300_000, 60_000
APART = timedelta(days=1)
"""An event may have happened so much later, by its own word, than it came on the log."""

log = structlog.get_logger()


class FollowUpsLook:
    """Returns the follow-ups that were not accepted; the reader is made at the first look, and kept.

    What nobody acknowledges stays in view however old it grows: an alert about it does not end with a window.
    """

    def __init__(self, reader: Callable[[], LedgerReader], contracts: Contracts, clock: Clock) -> None:
        self._reader = reader
        self._contracts = contracts
        self._clock = clock
        self._since: datetime | None = None

    def __call__(self) -> list[FollowUp]:
        """Look once; raises DatabaseUnavailableError, or SearchTooWideError where even a quarter is too much."""
        window = self._clock.now() - FOLLOW_UP_WINDOW
        found, oldest = [], window
        for row in self._rows(window):
            contract = self._contracts.types.get(row["type"])
            deadline = deadline_of(row["time"], contract.catalogue.deadline_working_days if contract else None)
            if deadline.day is not None:
                found.append(FollowUp(row["event"], row["agency"], deadline.day))
                oldest = min(oldest, row["time"] - APART)
        self._since = oldest
        return found

    def _rows(self, window: datetime) -> list[dict[str, Any]]:
        types, since = self._contracts.follow_up_types(), self._since
        limit_ms = WHOLE_MS if since is None else LATER_MS
        try:
            return self._reader().follow_ups(types, open_only=True, since=since, limit_ms=limit_ms)
        except SearchTooWideError:
            log.warning("follow_ups_toowide", since=since, looked_since=window)
            return self._reader().follow_ups(types, open_only=True, since=window, limit_ms=LATER_MS)
