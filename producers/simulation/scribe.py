"""Writes rows as departments' systems do: times with and without an offset, some rows twice, some out of order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from random import Random

from producers.simulation.calendar import is_working_day
from schemas.times import SHANGHAI

NAIVE_SHARE = 0.05
UTC_SHARE = 0.05
REPEATED_SHARE = 0.002
LATE_SHARE = 0.01
LONGEST_LATENESS = timedelta(days=3)

Row = dict[str, str]
Period = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class SimulatedFile:
    """The rows of one event type."""

    type: str
    rows: Sequence[Row]


class Scribe:
    """Draws moments and writes rows by one source of chance."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def moment(self, within: Period, *, office_hours: bool = False) -> datetime:
        """Return a moment: windows work nine to five on working days, people apply online at all hours."""
        begin, end = within
        while True:
            at = begin + (end - begin) * self.random.random()
            local = at.astimezone(SHANGHAI)
            at_work = 9 <= local.hour < 17 and is_working_day(local.date())
            if at_work or (not office_hours and self.random.random() < 0.25):
                return at.replace(microsecond=0)

    def day(self, within: Period) -> date:
        """Return a working day."""
        return self.moment(within, office_hours=True).astimezone(SHANGHAI).date()

    def written(self, at: datetime) -> str:
        """Write a time as systems do: mostly with an offset, some in UTC, some without any."""
        local = at.astimezone(SHANGHAI).replace(microsecond=0)
        chance = self.random.random()
        if chance < NAIVE_SHARE:
            return local.replace(tzinfo=None).isoformat()
        in_utc = chance < NAIVE_SHARE + UTC_SHARE
        return at.astimezone(UTC).replace(microsecond=0).isoformat() if in_utc else local.isoformat()

    def with_repeats(self, rows: Sequence[Row], share: float = REPEATED_SHARE) -> list[Row]:
        """Report some rows twice, word for word."""
        return [*rows, *self.random.sample(rows, int(len(rows) * share))]

    def file(self, kind: str, rows: Sequence[Row], time_field: str = "occurred_at") -> SimulatedFile:
        """Return a file whose rows are in the order of their times but for a few that come late."""

        def arrival(row: Row) -> datetime:
            late = self.random.random() < LATE_SHARE
            return time_of(row, time_field) + (LONGEST_LATENESS * self.random.random() if late else timedelta())

        return SimulatedFile(kind, sorted(rows, key=arrival))


def time_of(row: Row, field: str = "occurred_at") -> datetime:
    """Return a row's time; without an offset it is Shanghai's."""
    at = datetime.fromisoformat(row[field])
    return at if at.tzinfo else at.replace(tzinfo=SHANGHAI)
