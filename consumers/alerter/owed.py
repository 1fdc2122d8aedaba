"""Looks at who owes an acknowledgement: in the last quarter, and in each month before in which one is open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from schemas.contracts import Contracts
from services.alerting.rules import FollowUp
from services.ledger.deadlines import deadline_of
from services.ledger.reading import FOLLOW_UP_WINDOW, LedgerReader, SearchTooWideError
from services.runtime.clock import Clock

LIMIT_MS = 20_000
SHORTEST = timedelta(hours=1)
WHOLE_EVERY = timedelta(days=1)
"""So often all months are looked through: what was put on the log under an old time lies in a month of its own."""

log = structlog.get_logger()


class FollowUpsLook:
    """Returns the follow-ups that were not accepted; the reader is made at the first look, and kept.

    What nobody acknowledges stays in view however old it grows: an alert about it does not end with a window. Each
    month is asked for by itself, over the index of types and times; one that takes too long in halves.
    """

    def __init__(self, reader: Callable[[], LedgerReader], contracts: Contracts, clock: Clock) -> None:
        self._reader = reader
        self._contracts = contracts
        self._clock = clock
        self._whole_at: datetime | None = None
        self._open: set[datetime] = set()
        """The months in which one was open at the last look."""

    def __call__(self) -> list[FollowUp]:
        """Look once; raises DatabaseUnavailableError, or SearchTooWideError where even an hour is too much."""
        now = self._clock.now()
        recent = month_of(now - FOLLOW_UP_WINDOW)
        whole = self._whole_at is None or now - self._whole_at >= WHOLE_EVERY
        months = {(month, following(month)) for month in self._open if month < recent}
        if whole:
            months |= set(self._reader().months(recent))
        rows = [row for since, until in sorted(months) for row in self._rows(since, until)]
        rows += self._rows(recent, None)
        found: dict[FollowUp, None] = {}
        still_open = set()
        for row in rows:
            contract = self._contracts.types.get(row["type"])
            deadline = deadline_of(row["time"], contract.catalogue.deadline_working_days if contract else None)
            if deadline.day is not None:
                found[FollowUp(row["event"], row["agency"], deadline.day)] = None
                still_open.add(month_of(row["logged_at"]))
        self._open = still_open
        self._whole_at = now if whole else self._whole_at
        return list(found)

    def _rows(self, since: datetime, until: datetime | None) -> Sequence[dict[str, Any]]:
        types = self._contracts.follow_up_types()
        try:
            return self._reader().follow_ups(types, open_only=True, since=since, until=until, limit_ms=LIMIT_MS)
        except SearchTooWideError:
            length = (until or self._clock.now()) - since
            if length <= SHORTEST:
                raise
            log.info("follow_ups_halved", since=since, until=until)
        middle = since + length / 2
        return [*self._rows(since, middle), *self._rows(middle, until)]


def month_of(at: datetime) -> datetime:
    """Return the beginning of a time's month, as the ledger is parted."""
    return at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def following(month: datetime) -> datetime:
    """Return the beginning of the month after."""
    return month_of(month + timedelta(days=31))
