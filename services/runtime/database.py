"""PostgreSQL: one pool a process, migrations from plain SQL files, the driver's error wrapped once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout
from yoyo import get_backend, read_migrations

from services.runtime.errors import NOT_HERE, ConflictError, DatabaseUnavailableError, FieldProblem
from services.runtime.settings import DatabaseSettings

MIGRATIONS = Path(__file__).parent / "migrations"
CONNECT_TIMEOUT_S = 3.0
# The detail is translated by some servers, the key within it is not.
_KEY = re.compile(r"\((?P<columns>[^()]+)\)=\((?P<values>.*)\)")


def dsn_of(settings: DatabaseSettings) -> str:
    """Return the DSN; raises DatabaseUnavailableError when none is set."""
    if settings.dsn is None:
        raise DatabaseUnavailableError(f"没有指明数据库。{NOT_HERE} (database.dsn is not set)")
    return settings.dsn.get_secret_value()


def open_pool(settings: DatabaseSettings) -> ConnectionPool:
    """Return a pool that connects in the background and by itself again after an outage."""
    return ConnectionPool(
        dsn_of(settings),
        min_size=1,
        max_size=settings.pool_size,
        timeout=CONNECT_TIMEOUT_S,
        reconnect_timeout=CONNECT_TIMEOUT_S,
        check=ConnectionPool.check_connection,
        kwargs={"connect_timeout": int(CONNECT_TIMEOUT_S)},
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
