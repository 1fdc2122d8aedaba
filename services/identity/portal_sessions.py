"""The portal's sessions, kept on our side; a browser holds only a token, and here is only its digest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool

from services.identity.people import Person
from services.runtime.database import transaction

_SQL = Path(__file__).parent / "sql"
_OF_SESSION = ("digest", "csrf", "created_at", "seen_at", "address", "agent", "method")
_OF_SIGN_IN = ("one_time", "second_factor")


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who is signed in: since when, last seen when, from where and with what."""

    digest: str
    person: Person
    csrf: str
    created_at: datetime
    seen_at: datetime
    address: str
    agent: str
    method: Literal["password", "oidc"] = "password"
    one_time: bool = False
    """They came in by a password that works once, and must choose one."""
    second_factor: bool = False
    """They have a second factor."""


class SessionRepository:
    """Sessions in PostgreSQL."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def add(self, session: Session) -> None:
        """Keep a new session."""
        values: dict[str, Any] = {name: getattr(session, name) for name in _OF_SESSION}
        with transaction(self._pool) as connection:
            connection.execute(_read("session_add"), values | {"person": session.person.id})

    def get(self, digest: str) -> Session | None:
        """Return a session with its person as they are now."""
        return next(iter(self._find("digest = %s", digest)), None)

    def of(self, person: str) -> list[Session]:
        """Return all sessions of somebody, the newest first."""
        return self._find("p.id = %s ORDER BY s.created_at DESC", person)

    def touch(self, digest: str, at: datetime) -> None:
        """Note that a session was used."""
        with transaction(self._pool) as connection:
            connection.execute(_read("session_touch"), (at, digest))

    def end(self, digests: Iterable[str]) -> None:
        """End sessions."""
        with transaction(self._pool) as connection:
            connection.execute(_read("session_end"), (list(digests),))

    def end_all(self, person: str, but: str = "") -> list[str]:
        """End somebody's sessions, all but one at most; return which."""
        with transaction(self._pool) as connection:
            return [row[0] for row in connection.execute(_read("session_end_all"), (person, but))]

    def expire(self, seen_before: datetime, created_before: datetime) -> None:
        """Remove what is over."""
        with transaction(self._pool) as connection:
            connection.execute(_read("session_expire"), (seen_before, created_before))

    def _find(self, condition: str, value: str) -> list[Session]:
        query = f"{_read('session_list').decode()} WHERE {condition}"
        with transaction(self._pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
            return [_session(row) for row in cursor.execute(query.encode(), (value,))]


def _session(row: DictRow) -> Session:
    own = {name: row.pop(name) for name in (*_OF_SESSION, *_OF_SIGN_IN)}
    return Session(person=Person(**row), **own)


def _read(name: str) -> bytes:
    return (_SQL / f"{name}.sql").read_bytes()
