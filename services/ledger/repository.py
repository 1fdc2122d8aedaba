"""The ledger in PostgreSQL: rows are added together with the offsets that they came from."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path

from services.ledger.rows import COLUMNS, Row
from services.runtime.positions import Moves, PositionStore

_SQL = Path(__file__).parent / "sql"
FIRST_MONTH = date(2000, 1, 1)
HOURS_KEPT = timedelta(days=35)
"""How long the counts of hours are kept: they are for overviews of the last days."""
_COPY: dict[str, str] = {name: f"COPY ledger_{name} ({columns}) FROM STDIN" for name, columns in COLUMNS.items()}


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What was let go: whole partitions by name, and rows of partitions that hold others still."""

    partitions: Sequence[str] = ()
    rows: int = 0

    def __bool__(self) -> bool:
        return bool(self.partitions or self.rows)


class LedgerStore(PositionStore):
    """Writes rows together with positions; makes the months that it needs."""

    def __init__(self, dsn: str, consumer: str) -> None:
        super().__init__(dsn, consumer)
        self._months: set[tuple[int, int]] = set()

    def store(self, records: Sequence[Sequence[Row]], moves: Moves) -> int:
        """Add the rows of records and move positions (see :meth:`PositionStore.moving`); return how many rows."""
        tables: defaultdict[str, list[Row]] = defaultdict(list)
        hours: Counter[tuple[datetime, str, str, str]] = Counter()
        for rows in records:
            for row in rows:
                tables[row.table].append(row)
                if row.counted is not None:
                    _count(hours, row.logged_at, *row.counted)
        self._ensure_months({(row.logged_at.year, row.logged_at.month) for rows in tables.values() for row in rows})
        with self.moving(moves) as connection:
            for table, found in tables.items():
                with connection.cursor().copy(_COPY[table].encode()) as copy:
                    for row in found:
                        copy.write_row(row.values)
            if hours:
                connection.execute(_read("count_hours"), _columns(hours))
        return sum(map(len, tables.values()))

    def rebuild(self) -> None:
        """Empty the ledger and forget its positions: whoever fills it begins anew at the log's beginning."""
        with self.transaction() as connection:
            connection.execute(_read("empty"))
            connection.execute(_read("forget"), (self._consumer,))
            self._months.clear()

    def trim(self, now: datetime, retention: Mapping[str, timedelta]) -> Trimmed:
        """Let go of what the catalogue keeps no longer, in whole months that ended so long ago; return what went.

        An event stays as long as its type does, whatever its month holds besides; what has no type of the catalogue's
        stays as long as the type that stays longest.
        """
        longest = max(retention.values())
        with self.transaction() as connection:
            connection.execute(_read("settle"), (FIRST_MONTH,))
        with self.transaction() as connection:
            connection.execute(_read("trim_hours"), (now - HOURS_KEPT,))
            connection.execute(_read("trim_receivers"), (now - longest,))
            months = connection.execute(_read("months"), (now - min(retention.values()),)).fetchall()
        dropped, gone = [], 0
        for name, ended in months:
            expired = [kind for kind, kept in retention.items() if ended <= now - kept]
            with self.transaction() as connection:  # one each: other writers and readers wait for no more than that
                if ended <= now - longest:
                    connection.execute(_read("drop"), (name,))
                    rows = None
                else:
                    (rows,) = connection.execute(_read("trim"), (name, expired)).fetchone() or (0,)
            gone += rows or 0
            dropped += [str(name)] if rows is None else []
        self._months.clear()
        return Trimmed(dropped, gone)

    def _ensure_months(self, months: set[tuple[int, int]]) -> None:
        for year, month in sorted(months - self._months):
            if year >= FIRST_MONTH.year:
                with self.transaction() as connection:
                    connection.execute(_read("month"), (date(year, month, 1),))
                self._months.add((year, month))


def _count(hours: Counter[tuple[datetime, str, str, str]], at: datetime, source: str, agency: str, what: str) -> None:
    """Count one for the agency, if there is one, and one for the whole source."""
    hour = at.replace(minute=0, second=0, microsecond=0)
    hours[hour, source, "", what] += 1
    if agency:
        hours[hour, source, agency, what] += 1


def _columns(hours: Mapping[tuple[datetime, str, str, str], int]) -> dict[str, list[object]]:
    """Return the counts by column, in an order that is the same for every process, so that none wait for each other."""
    named = [(*key, hours[key]) for key in sorted(hours)]
    return dict(
        zip(("hours", "sources", "agencies", "whats", "numbers"), map(list, zip(*named, strict=True)), strict=True)
    )


@cache
def _read(name: str) -> bytes:
    return (_SQL / f"{name}.sql").read_bytes()
