"""Facts in PostgreSQL: each batch commits with the offsets that it came from, or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import psycopg
from psycopg.types.json import Jsonb

from services.runtime.errors import DatabaseUnavailableError
from services.runtime.positions import NO_TABLES, Moves, PartitionKey, PositionStore, read_positions
from services.statistics.definitions import Metric
from services.statistics.facts import Fact

_SQL = Path(__file__).parent / "sql"


@dataclass(frozen=True, slots=True)
class Stored:
    """What a batch came to: facts added, events that were there already, and of these the ones with other content."""

    added: int
    repeated: int
    conflicts: int


class FactStore(PositionStore):
    """Writes facts together with positions."""

    def store(self, facts: Sequence[Fact], moves: Moves) -> Stored:
        """Store facts and move each partition, in one transaction (see :meth:`PositionStore.moving`)."""
        with self.moving(moves) as connection:
            return self._insert(connection, facts)

    @staticmethod
    def _insert(connection: psycopg.Connection, facts: Sequence[Fact]) -> Stored:
        if not facts:
            return Stored(0, 0, 0)
        connection.execute(_read("staging"))
        with connection.cursor().copy(_read("copy")) as copy:
            for fact in facts:
                copy.write_row(_row(fact))
        conflicts = 0
        added = connection.execute(_read("insert")).rowcount
        if added < len(facts):
            found = connection.execute(_read("conflicts")).fetchone()
            conflicts = int(found[0]) if found else 0
        return Stored(added, len(facts) - added, conflicts)


@contextmanager
def figures(dsn: str, consumer: str) -> Iterator[FigureReader]:
    """Give a reader of what this consumer counted, all on one snapshot; raises DatabaseUnavailableError."""
    try:
        with psycopg.connect(dsn, connect_timeout=3) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            yield FigureReader(connection, consumer)
    except psycopg.OperationalError as error:
        raise DatabaseUnavailableError(f"PostgreSQL: {error}") from error
    except psycopg.errors.UndefinedTable as error:
        raise DatabaseUnavailableError(NO_TABLES) from error


class FigureReader:
    """Counts figures from the facts."""

    def __init__(self, connection: psycopg.Connection, consumer: str) -> None:
        self._connection = connection
        self._consumer = consumer

    def count(self, metric: Metric, bounds: tuple[datetime, datetime]) -> int:
        """Return the exact value of a metric within closed-open bounds."""
        values = {"type": metric.type, "from": bounds[0], "to": bounds[1], "where": Jsonb(dict(metric.where))}
        return self._one(f"count_{metric.counting}", values)

    def events(self, bounds: tuple[datetime, datetime]) -> int:
        """Return how many events of any kind lie within the bounds."""
        return self._one("month_events", {"from": bounds[0], "to": bounds[1]})

    def positions(self) -> dict[PartitionKey, int]:
        """Return up to where each partition is counted (the next offset)."""
        return read_positions(self._connection, self._consumer)

    def _one(self, name: str, values: Mapping[str, object]) -> int:
        row = self._connection.execute(_read(name), values).fetchone()
        return int(row[0]) if row else 0


def _row(fact: Fact) -> tuple[object, ...]:
    return (
        fact.source,
        fact.event_id,
        fact.type,
        fact.case_key,
        fact.occurred_at,
        fact.quantity,
        Jsonb(fact.dimensions),
        fact.digest,
        fact.topic,
        fact.partition,
        fact.offset,
    )


@cache
def _read(name: str) -> bytes:
    return (_SQL / f"{name}.sql").read_bytes()
