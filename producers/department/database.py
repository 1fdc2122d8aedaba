"""A department's own database, by SQLAlchemy Core: PostgreSQL, MySQL, MariaDB and the others.

One connection a session, in autocommit: whoever loses it has lost the lock and can do nothing more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import psycopg
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from services.runtime.errors import DatabaseUnavailableError, HongyanError

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30
_DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mariadb+pymysql"}
_NAMED_POSTGRESQL_LOCK = "SELECT pg_try_advisory_lock(:number)"
_NAMED_MYSQL_LOCK = "SELECT GET_LOCK(SHA1(:name), 0)"


class OutOfRange(str):
    """A time that Python has none for, as the database writes it: ``infinity``, or one behind the year 9999."""

    __slots__ = ()


class DatabaseSettingError(HongyanError):
    """The database's address, or a name in it, is none."""


class DepartmentDatabase:
    """Reached by an SQLAlchemy URL (``postgresql://``, ``mysql://``, …); ``setting`` names it in messages."""

    def __init__(self, url: str, idle_s: float, setting: str) -> None:
        self._url = _with_driver(url, setting)
        self._idle_s = idle_s
        self._engine = create_engine(
            self._url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=_connect_arguments(self._url)
        )
        if self._url.drivername.endswith("+psycopg"):
            event.listen(self._engine, "connect", _read_any_time)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Connect; raises DatabaseUnavailableError, also from within, for whatever the database refuses."""
        try:
            with self._engine.connect() as connection:
                _end_when_idle(connection, self._idle_s)
                yield connection
        except (DBAPIError, psycopg.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise DatabaseUnavailableError(f"{self._url.get_backend_name()}: {cause}".strip()) from error


def lock_name(connection: Connection, name: str) -> bool:
    """Take the lock of this name for as long as the session lasts, and tell whether it could be had.

    It needs no rights and writes nothing. A database without such locks gives it to everybody: there the producer's
    fencing alone keeps those apart who share the name.
    """
    if connection.dialect.name == "postgresql":
        number = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), signed=True)
        return bool(connection.scalar(text(_NAMED_POSTGRESQL_LOCK), {"number": number}))
    if connection.dialect.name in {"mysql", "mariadb"}:
        return bool(connection.scalar(text(_NAMED_MYSQL_LOCK), {"name": name}))
    return True


def _end_when_idle(connection: Connection, idle_s: float) -> None:
    """Have the server end this session after ``idle_s`` without a statement: a hung process gives its lock up."""
    version = connection.dialect.server_version_info or (0,)
    if connection.dialect.name == "postgresql" and version >= (14,):
        connection.execute(text(f"SET idle_session_timeout = {int(idle_s * 1000)}"))
    elif connection.dialect.name in {"mysql", "mariadb"}:
        connection.execute(text(f"SET SESSION wait_timeout = {max(1, int(idle_s))}"))


def _with_driver(url: str, setting: str) -> URL:
    try:
        found = make_url(url)
        found.get_dialect()
    except (ArgumentError, NoSuchModuleError) as error:
        raise DatabaseSettingError(f"{setting} 不是 SQLAlchemy 地址 (is no SQLAlchemy URL): {error}") from error
    return found.set(drivername=_DRIVERS.get(found.drivername, found.drivername))


def _connect_arguments(url: URL) -> dict[str, Any]:
    if url.drivername.endswith("+psycopg"):
        return {"connect_timeout": CONNECT_TIMEOUT_S, "tcp_user_timeout": READ_TIMEOUT_S * 1000}
    if url.drivername.endswith("+pymysql"):
        timeouts = {"read_timeout": READ_TIMEOUT_S, "write_timeout": READ_TIMEOUT_S}
        return {"connect_timeout": CONNECT_TIMEOUT_S, **timeouts, "conv": _mysql_readers()}
    return {}


class _AnyTime(Loader):
    """Reads times as psycopg does, and those that it refuses as :class:`OutOfRange`: none hides the other rows."""

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        usual = psycopg.adapters.get_loader(oid, Format.TEXT)
        if usual is None:
            raise LookupError(f"psycopg reads no type {oid}")
        self._usual = usual(oid, context)

    def load(self, data: Buffer) -> Any:  # noqa: ANN401  (a time, or text)
        """Return a value of a row."""
        try:
            return self._usual.load(data)
        except psycopg.DataError:
            return OutOfRange(bytes(data).decode())


def _read_any_time(connection: Any, _record: object) -> None:  # noqa: ANN401  (SQLAlchemy wraps the driver's)
    adapters: psycopg.adapt.AdaptersMap = connection.adapters
    for name in ("date", "timestamp", "timestamptz"):
        adapters.register_loader(name, _AnyTime)


def _mysql_readers() -> dict[Any, Any]:
    from pymysql.constants import FIELD_TYPE
    from pymysql.converters import conversions

    def lenient(kind: int) -> Any:  # noqa: ANN401
        return lambda given: OutOfRange(found) if isinstance(found := conversions[kind](given), str) else found

    times = (FIELD_TYPE.DATE, FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP)
    return {**conversions, **{kind: lenient(kind) for kind in times}}
