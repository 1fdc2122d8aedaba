"""Settles what was stored: which event each case counts at, which events are corrected, and the cells of each month.

Storing only appends, so that it is quick; settling follows in bulk, before figures are read and while nothing comes in.
It depends on the set of facts alone, never on their order or batches: the first valid event of a case is the one that
happened first (of two at once the one of the smaller identity), and of several corrections of an event the last
recorded one holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from services.runtime.database import Connections
from services.runtime.errors import DatabaseUnavailableError
from services.runtime.positions import NO_TABLES
from services.statistics.store import SCHEMA, in_schema, read_sql

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ"


@dataclass(frozen=True, slots=True)
class Unsettled:
    """What waits: batches, and months whose cells are out of date."""

    batches: int
    months: int

    def __bool__(self) -> bool:
        return bool(self.batches or self.months)


def unsettled(connection: psycopg.Connection) -> Unsettled:
    """Return what waits to be settled."""
    row = connection.execute(read_sql("unsettled")).fetchone()
    return Unsettled(int(row[0]), int(row[1])) if row else Unsettled(0, 0)


@contextmanager
def settled(dsn: str, schema: str = SCHEMA, connections: Connections | None = None) -> Iterator[psycopg.Connection]:
    """Give a connection inside a repeatable-read transaction in whose snapshot nothing is left to settle.

    It is committed at the end, and fails with ``connections``. Raises DatabaseUnavailableError.
    """
    try:
        with psycopg.connect(in_schema(dsn, schema), connect_timeout=3, autocommit=True) as connection:
            if connections is not None:
                connections.add(connection)
            connection.execute(_BEGIN)
            if unsettled(connection):
                # Who settles does so alone, until the session's end, and takes the snapshot after the lock.
                connection.execute("ROLLBACK")
                connection.execute(read_sql("settle_lock"))
                connection.execute(_BEGIN)
                _settle(connection)
            yield connection
            connection.execute("COMMIT")
    except psycopg.OperationalError as error:
        raise DatabaseUnavailableError(f"PostgreSQL: {error}") from error
    except psycopg.errors.UndefinedTable as error:
        raise DatabaseUnavailableError(NO_TABLES) from error


def _settle(connection: psycopg.Connection) -> None:
    waiting = unsettled(connection)
    if waiting.batches:
        connection.execute(read_sql("settle"))
    if waiting:
        connection.execute(read_sql("cells"))
