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

from services.runtime.errors import DatabaseUnavailableError, UnavailableError
from services.statistics.definitions import Metric
from services.statistics.facts import Fact

_SQL = Path(__file__).parent / "sql"
PartitionKey = tuple[str, int]
NO_TABLES = "PostgreSQL 中还没有统计表，先运行 hongyan up (the tables are missing; `hongyan up` makes them)"


class PositionLostError(UnavailableError):
    """Another owner of the partition has advanced it meanwhile; the position must be read again."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a batch came to: facts added, events that were there already, and of these the ones with other content."""

    added: int
    repeated: int
    conflicts: int


class FactStore:
    """Writes facts over one connection of its own; made anew after an outage."""

    def __init__(self, dsn: str, consumer: str) -> None:
        self._dsn = dsn
        self._consumer = consumer
        self._connection: psycopg.Connection | None = None

    def positions(self) -> dict[PartitionKey, int]:
        """Return the next offset of every partition that has one; raises DatabaseUnavailableError."""
        with self._transaction() as connection:
            return _positions(connection, self._consumer)

    def begin(self, partition: PartitionKey, offset: int) -> None:
        """Make a partition known at this offset, unless it is already."""
        with self._transaction() as connection:
            connection.execute(_read("offset_begin"), self._place(partition) | {"next": offset})

    def store(self, facts: Sequence[Fact], moves: Mapping[PartitionKey, tuple[int, int]]) -> Stored:
        """Store facts and move each partition from the offset expected to the next one, in one transaction.

        Raises PositionLostError when a partition does not stand where it is expected (a zombie is fenced by it), and
        DatabaseUnavailableError; either way nothing is stored.
        """
        with self._transaction() as connection:
            for partition, (expected, following) in moves.items():
                values = self._place(partition) | {"expected": expected, "next": following}
                if connection.execute(_read("offset_update"), values).rowcount != 1:
                    raise PositionLostError(f"{partition} does not stand at {expected}")
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

    def _place(self, partition: PartitionKey) -> dict[str, object]:
        return {"consumer": self._consumer, "topic": partition[0], "partition": partition[1]}

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection]:
        try:
            if self._connection is None:
                self._connection = psycopg.connect(self._dsn, connect_timeout=3)
            with self._connection.transaction():
                yield self._connection
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            self.close()
            raise DatabaseUnavailableError(f"PostgreSQL: {error}") from error
        except psycopg.errors.UndefinedTable as error:
            raise DatabaseUnavailableError(NO_TABLES) from error

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


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
        return _positions(self._connection, self._consumer)

    def _one(self, name: str, values: Mapping[str, object]) -> int:
        row = self._connection.execute(_read(name), values).fetchone()
        return int(row[0]) if row else 0


def _positions(connection: psycopg.Connection, consumer: str) -> dict[PartitionKey, int]:
    rows = connection.execute(_read("offsets"), (consumer,)).fetchall()
    return {(topic, partition): offset for topic, partition, offset in rows}


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
