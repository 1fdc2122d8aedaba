"""Writes facts: each batch commits with the offsets that it came from, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.json import Jsonb

from services.runtime.positions import Moves, PartitionKey, PositionStore
from services.statistics.facts import Cell, Deletion, Fact

_SQL = Path(__file__).parent / "sql"
SCHEMA = "statistics"
_NULL = "\\N"
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def in_schema(dsn: str, schema: str = SCHEMA) -> str:
    """Return the DSN of sessions that find the store's tables in this schema."""
    before = conninfo_to_dict(dsn).get("options", "")
    return make_conninfo(dsn, options=f"{before} -c search_path={schema},public".strip())


@cache
def read_sql(name: str) -> bytes:
    """Return a statement that lies beside this module."""
    return (_SQL / f"{name}.sql").read_bytes()


@dataclass(frozen=True, slots=True)
class Stored:
    """What a batch came to: facts added, events that were there already, and of these the ones with other content."""

    added: int
    repeated: int
    conflicts: int


class FactStore(PositionStore):
    """Writes facts together with positions, into one schema."""

    def __init__(self, dsn: str, consumer: str, schema: str = SCHEMA) -> None:
        super().__init__(in_schema(dsn, schema), consumer)
        self._cells: set[int] = set()
        self._months: set[int] = set()

    def positions(self) -> dict[PartitionKey, int]:
        """Return the next offset of every partition that has one. Partitions are taken over anew: nothing is known."""
        self._cells.clear()
        self._months.clear()
        return super().positions()

    def begin(self, partition: PartitionKey, offset: int) -> None:
        """Make a partition known, and that what lies before this offset is not here; unless it is already."""
        with self.transaction() as connection:
            connection.execute(read_sql("log_begin"), (self._consumer, *partition, offset, offset))

    def store(self, rows: Sequence[Fact | Deletion], moves: Moves) -> Stored:
        """Store facts and move each partition, in one transaction (see :meth:`PositionStore.moving`)."""
        facts = [row for row in rows if isinstance(row, Fact)]
        deletions = [row for row in rows if isinstance(row, Deletion)]
        unique, repeated, conflicts = _first_of_each(facts)
        months = {fact.month for fact in unique.values()}
        self._make_partitions(months)
        fresh_cells = {fact.cell.id: fact.cell for fact in unique.values() if fact.cell.id not in self._cells}
        with self.moving(moves) as connection:
            if not unique and not deletions:
                return Stored(0, repeated, conflicts)
            logs = self._logs(connection)
            batch = _number(connection, "batch_add", {"months": sorted(months)})
            _add_cells(connection, fresh_cells)
            added = _insert(connection, unique.values(), logs, batch) if unique else 0
            _correct(connection, unique.values(), deletions, logs, batch)
            if added < len(unique):
                repeated += len(unique) - added
                conflicts += _number(connection, "conflicts")
        self._cells |= fresh_cells.keys()
        return Stored(added, repeated, conflicts)

    def _logs(self, connection: psycopg.Connection) -> dict[tuple[str, int], int]:
        rows = connection.execute(read_sql("logs"), (self._consumer,)).fetchall()
        return {(topic, partition): number for number, topic, partition in rows}

    def _make_partitions(self, months: Iterable[int]) -> None:
        """Make the partitions of months that come for the first time, in a transaction before the batch's own."""
        missing = sorted(set(months) - self._months)
        if not missing:
            return
        with self.transaction() as connection:
            connection.execute(read_sql("partition_lock"))
            known = {month for (month,) in connection.execute(read_sql("months"))}
            for month in missing:
                if month not in known:
                    connection.execute(read_sql("partition_add").replace(b"{month}", str(month).encode()))
                    connection.execute(read_sql("month_add"), (month,))
        self._months |= set(missing)


def _first_of_each(facts: Sequence[Fact]) -> tuple[dict[UUID, Fact], int, int]:
    """Return the first fact of each identity, how many came again, and how many of these with other content."""
    unique: dict[UUID, Fact] = {}
    conflicts = 0
    for fact in facts:
        first = unique.setdefault(fact.identity, fact)
        conflicts += first.digest != fact.digest
    return unique, len(facts) - len(unique), conflicts


def _number(connection: psycopg.Connection, name: str, values: Mapping[str, object] | None = None) -> int:
    row = connection.execute(read_sql(name), values).fetchone()
    return int(row[0]) if row else 0


def _add_cells(connection: psycopg.Connection, cells: Mapping[int, Cell]) -> None:
    # In one order everywhere: two instances that add the same cells wait for each other and never in a circle.
    rows = [(c.id, c.kind, c.type, c.source, Jsonb(c.data)) for _, c in sorted(cells.items())]
    if rows:
        connection.cursor().executemany(read_sql("cell_add"), rows)


def _insert(
    connection: psycopg.Connection, facts: Iterable[Fact], logs: Mapping[tuple[str, int], int], batch: int
) -> int:
    connection.execute(read_sql("staging"))
    lines = "".join([_line(fact, logs[fact.place[0], fact.place[1]], batch) for fact in facts])
    with connection.cursor().copy(read_sql("copy")) as copy:
        copy.write(lines.encode())
    return connection.execute(read_sql("insert")).rowcount


def _line(fact: Fact, log: int, batch: int) -> str:
    """Return a fact as a line of COPY's text format."""
    return (
        f"{fact.identity.hex}\t{fact.digest.hex}\t{fact.month}\t{fact.cell.id}\t{fact.cell.kind}\t{fact.case_id.hex}\t"
        f"{_text(fact.event_id)}\t{_text(fact.case_key)}\t{fact.occurred_at.isoformat()}\t"
        f"{fact.recorded_at.isoformat()}\t{fact.follows.hex if fact.follows else _NULL}\t"
        f"{_NULL if fact.marks is None else _text(fact.marks)}\t{_text(fact.detail)}\t{log}\t{fact.place[2]}\t{batch}\n"
    )


def _text(text: str) -> str:
    return text.translate(_ESCAPES)


def _correct(
    connection: psycopg.Connection,
    facts: Iterable[Fact],
    deletions: Iterable[Deletion],
    logs: Mapping[tuple[str, int], int],
    batch: int,
) -> None:
    """Keep which events correct or delete which. Of a repeated event that is known it changes nothing."""
    rows = [(f.follows, f.identity, f.recorded_at, f.place) for f in facts if f.follows is not None]
    rows += [(d.target, d.identity, d.recorded_at, d.place) for d in deletions]
    if rows:
        values = [(target, by, at, logs[place[:2]], place[2], batch) for target, by, at, place in sorted(rows)]
        connection.cursor().executemany(read_sql("correction_add"), values)
