"""The ledger in PostgreSQL: rows are added together with the offsets that they came from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path

from services.ledger.rows import COLUMNS, Row
from services.runtime.positions import Moves, PositionStore

_SQL = Path(__file__).parent / "sql"
FIRST_MONTH = date(2000, 1, 1)
_COPY: dict[str, str] = {name: f"COPY ledger_{name} ({columns}) FROM STDIN" for name, columns in COLUMNS.items()}


class LedgerStore(PositionStore):
    """Writes rows together with positions; makes the months that it needs."""

    def __init__(self, dsn: str, consumer: str) -> None:
        super().__init__(dsn, consumer)
        self._months: set[date] = set()

    def store(self, records: Sequence[Sequence[Row]], moves: Moves) -> int:
        """Add the rows of records and move positions (see :meth:`PositionStore.moving`); return how many rows."""
        tables: defaultdict[str, list[Row]] = defaultdict(list)
        for rows in records:
            for row in rows:
                tables[row.table].append(row)
        self._ensure_months({_month(row.logged_at) for rows in tables.values() for row in rows})
        with self.moving(moves) as connection:
            for table, found in tables.items():
                with connection.cursor().copy(_COPY[table].encode()) as copy:
                    for row in found:
                        copy.write_row(row.values)
        return sum(map(len, tables.values()))

    def rebuild(self) -> None:
        """Empty the ledger and forget its positions: whoever fills it begins anew at the log's beginning."""
        with self.transaction() as connection:
            connection.execute(_read("empty"))
            connection.execute(_read("forget"), (self._consumer,))
            self._months.clear()

    def trim(self, before: datetime) -> list[str]:
        """Drop the months that ended before a time; return the partitions dropped."""
        with self.transaction() as connection:
            dropped = [str(name) for (name,) in connection.execute(_read("trim"), (before,))]
        self._months.clear()
        return dropped

    def _ensure_months(self, months: set[date]) -> None:
        missing = {month for month in months - self._months if month >= FIRST_MONTH}
        for month in sorted(missing):
            with self.transaction() as connection:
                connection.execute(_read("month"), (month,))
            self._months.add(month)


def _month(at: datetime) -> date:
    return at.astimezone(UTC).date().replace(day=1)


@cache
def _read(name: str) -> bytes:
    return (_SQL / f"{name}.sql").read_bytes()
