"""Positions on Kafka kept in PostgreSQL, so that rows commit together with the offsets that they came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from services.runtime.database import ALIVE
from services.runtime.errors import DatabaseUnavailableError, UnavailableError

_SQL = Path(__file__).parent / "sql"
PartitionKey = tuple[str, int]
Moves = Mapping[PartitionKey, tuple[int, int]]
"""Each partition with the offset where it is expected to stand, and the next one."""
NO_TABLES = "PostgreSQL 中还没有所需的表，先运行 hongyan up (the tables are missing; `hongyan up` makes them)"


class PositionLostError(UnavailableError):
    """Another owner of the partition has advanced it meanwhile; the position must be read again."""


class PositionStore:
    """One consumer's positions, over one connection of its own; made anew after an outage.

    A store of rows extends it and writes inside :meth:`moving`.
    """

    def __init__(self, dsn: str, consumer: str) -> None:
        self._dsn = dsn
        self._consumer = consumer
        self._connection: psycopg.Connection | None = None

    def positions(self) -> dict[PartitionKey, int]:
        """Return the next offset of every partition that has one; raises DatabaseUnavailableError."""
        with self.transaction() as connection:
            return read_positions(connection, self._consumer)

    def begin(self, partition: PartitionKey, offset: int) -> None:
        """Make a partition known at this offset, unless it is already."""
        with self.transaction() as connection:
            connection.execute(_read("offset_begin"), self._place(partition) | {"next": offset})

    @contextmanager
    def moving(self, moves: Moves) -> Iterator[psycopg.Connection]:
        """Move each partition from the offset expected to the next one, and let the caller write beside it.

        Raises PositionLostError when a partition does not stand where it is expected (a zombie is fenced by it), and
        DatabaseUnavailableError; either way nothing is stored.
        """
        with self.transaction() as connection:
            values = {
                "consumer": self._consumer,
                "topics": [topic for topic, _ in moves],
                "partitions": [partition for _, partition in moves],
                "expected": [expected for expected, _ in moves.values()],
                "next": [following for _, following in moves.values()],
            }
            moved = connection.execute(_read("offset_update"), values).rowcount
            if moved != len(moves):
                raise PositionLostError(f"{len(moves) - moved} partitions do not stand where they were left")
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection]:
        """Give the connection inside one transaction; raises DatabaseUnavailableError."""
        try:
            if self._connection is None:
                self._connection = psycopg.connect(make_conninfo(self._dsn, **ALIVE))
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

    def _place(self, partition: PartitionKey) -> dict[str, object]:
        return {"consumer": self._consumer, "topic": partition[0], "partition": partition[1]}


def read_positions(connection: psycopg.Connection, consumer: str) -> dict[PartitionKey, int]:
    """Return up to where each partition is taken in (the next offset)."""
    rows = connection.execute(_read("offsets"), (consumer,)).fetchall()
    return {(topic, partition): offset for topic, partition, offset in rows}


@cache
def _read(name: str) -> bytes:
    return (_SQL / f"{name}.sql").read_bytes()
