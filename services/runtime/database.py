"""PostgreSQL: one pool a process, migrations from plain SQL files, the driver's error wrapped once."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import WeakSet

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout
from yoyo import get_backend, read_migrations

from services.runtime.errors import NOT_HERE, ConflictError, DatabaseUnavailableError, FieldProblem
from services.runtime.settings import DatabaseSettings

MIGRATIONS = Path(__file__).parent / "migrations"
CONNECT_TIMEOUT_S = 3.0
ALIVE: dict[str, int] = {
    "connect_timeout": int(CONNECT_TIMEOUT_S),
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""A machine that is gone is noticed within some seconds, and not after the two hours that Linux would wait."""
# The detail is translated by some servers, the key within it is not.
_KEY = re.compile(r"\((?P<columns>[^()]+)\)=\((?P<values>.*)\)")


def dsn_of(settings: DatabaseSettings) -> str:
    """Return the DSN; raises DatabaseUnavailableError when none is set."""
    if settings.dsn is None:
        raise DatabaseUnavailableError(f"没有指明数据库。{NOT_HERE} (database.dsn is not set)")
    return settings.dsn.get_secret_value()


class Connections:
    """Connections of a process that fail together when their server is found to hang."""

    def __init__(self) -> None:
        self._made: WeakSet[psycopg.Connection] = WeakSet()

    def add(self, connection: psycopg.Connection) -> None:
        """Take one in; it is let go of when it is no longer used."""
        self._made.add(connection)

    def sever(self) -> None:
        """Break each: whoever waits for a server that hangs fails now, and not when it goes on."""
        for connection in list(self._made):
            with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as own:
                own.shutdown(socket.SHUT_RDWR)


class GuardedPool(ConnectionPool):
    """A pool of which nobody waits for a connection while its server is known to be away."""

    def __init__(self, dsn: str, **options: Any) -> None:  # noqa: ANN401  (the pool's own)
        self.check_server: Callable[[], None] | None = None
        """Raises UnavailableError then."""
        self.connections = Connections()
        """The pool's own; who connects beside it adds theirs."""
        super().__init__(dsn, configure=self.connections.add, **options)

    def getconn(self, timeout: float | None = None) -> psycopg.Connection:
        """Return a connection; raises what ``check_server`` does."""
        if self.check_server is not None:
            self.check_server()
        return super().getconn(timeout)


def open_pool(settings: DatabaseSettings) -> GuardedPool:
    """Return a pool that connects in the background and by itself again after an outage."""
    return GuardedPool(
        dsn_of(settings),
        min_size=1,
        max_size=settings.pool_size,
        timeout=CONNECT_TIMEOUT_S,
        reconnect_timeout=CONNECT_TIMEOUT_S,
        check=ConnectionPool.check_connection,
        kwargs=ALIVE,
        open=True,
    )


@contextmanager
def transaction(pool: ConnectionPool) -> Iterator[psycopg.Connection]:
    """Yield a connection inside one transaction; raises DatabaseUnavailableError or ConflictError (unique key)."""
    try:
        with pool.connection() as connection, connection.transaction():
            yield connection
    except (PoolTimeout, psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise DatabaseUnavailableError(f"PostgreSQL: {error}") from error
    except psycopg.errors.UniqueViolation as error:
        raise _taken(error) from error


def _taken(error: psycopg.errors.UniqueViolation) -> ConflictError:
    """Return what is taken, by its columns; the server's own words are kept as the cause."""
    found = _KEY.search(error.diag.message_detail or "")
    if found is None:
        return ConflictError(f"已存在：{error.diag.constraint_name} (exists already)")
    columns, values = (found[name].split(", ") for name in ("columns", "values"))
    detail = f"已被使用，换一个或先查现有的：{', '.join(values)} (is taken)"
    problems = [FieldProblem(f"/{column}", detail) for column in columns]
    return ConflictError("; ".join(f"{p.pointer}: {p.detail}" for p in problems), problems)


def answers(pool: ConnectionPool) -> bool:
    """Tell whether the database answers now."""
    try:
        with transaction(pool) as connection:
            connection.execute("SELECT 1")
    except DatabaseUnavailableError:
        return False
    return True


class DatabaseAnswering:
    """Tells whether a database answers now, over a connection of its own: a pool's may all be in use."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: psycopg.Connection | None = None

    def __call__(self) -> bool:
        """Ask it; it may take as long as the server hangs. To be called from one thread."""
        try:
            if self._connection is None:
                self._connection = psycopg.connect(make_conninfo(self._dsn, **ALIVE), autocommit=True)
            self._connection.execute("SELECT 1")
        except (psycopg.OperationalError, psycopg.InterfaceError):
            self.close()
            return False
        return True

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def migrate(dsn: str) -> None:
    """Apply the migrations that are missing; safe to call from several processes at once."""
    try:
        backend = get_backend(dsn.replace("postgresql://", "postgresql+psycopg://", 1))
    except psycopg.OperationalError as error:
        raise DatabaseUnavailableError(f"PostgreSQL: {error}") from error
    try:
        migrations = read_migrations(str(MIGRATIONS))
        with backend.lock():
            backend.apply_migrations(backend.to_apply(migrations))
    finally:
        backend.connection.close()
