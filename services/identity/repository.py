"""Publishing departments: what they may publish, and their keys, which are kept as digests."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from psycopg import Cursor
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

from services.runtime import control_outbox
from services.runtime.database import transaction
from services.runtime.errors import ConflictError, NotFoundError

KEY_START = "hyk_"
MAX_LIVE_KEYS = 2
_SQL = Path(__file__).parent / "sql"


@dataclass(frozen=True, slots=True)
class DepartmentRow:
    """A department as it is kept.

    ``divisions`` limits a type (``*``: every type) to prefixes of GB/T 2260 codes; ``client_id`` is its name at the
    OAuth2 server; ``rate_per_s`` and ``burst`` (events) are None where the installation's limits hold.
    """

    id: str
    name: str
    source: str
    types: list[str]
    divisions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    client_id: str | None = None
    rate_per_s: float | None = None
    burst: int | None = None
    version: int = 1


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A live key: its id, its digest, and when it ends (None: not by itself)."""

    id: str
    digest: str
    created_at: datetime
    expires_at: datetime | None


def new_key() -> str:
    """Return a new API key: shown once, kept as a digest."""
    return KEY_START + secrets.token_urlsafe(32)


def key_digest(key: str) -> str:
    """Return the SHA-256 digest of a key, hex. A key has 256 random bits, so it needs no slow hash."""
    return hashlib.sha256(key.encode()).hexdigest()


class DepartmentRepository:
    """Departments in PostgreSQL; every change goes to the outbox in the same transaction."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def add(self, department: DepartmentRow, key: str) -> None:
        """Add a department with its first key; raises ConflictError when id, source or client id is taken."""
        with self._changing() as cursor:
            cursor.execute(_read("department_add"), _values(department))
            self._add_key(cursor, department.id, key)
            self._announce(cursor, department)

    def list(self) -> list[DepartmentRow]:
        """Return all departments by id."""
        with self._changing() as cursor:
            return [DepartmentRow(**row) for row in cursor.execute(_read("department_list"))]

    def change(
        self, department: str, change: Callable[[DepartmentRow], DepartmentRow], by: str, reason: str
    ) -> DepartmentRow:
        """Change what a department is and may do, all but its id and source; return it.

        Raises NotFoundError, ConflictError when the client id is taken, and what ``change`` raises.
        """
        with self._changing() as cursor:
            row = change(self._touched(cursor, department))
            cursor.execute(_read("department_change"), _values(row))
            cursor.execute(_read("decision_add"), (row.id, row.version, "change", by, reason))
            self._announce(cursor, row)
        return row

    def keys(self, department: str) -> Sequence[KeyRow]:
        """Return a department's live keys, oldest first."""
        with self._changing() as cursor:
            return self._live(cursor, department)

    def rotate(self, department: str, key: str, overlap: timedelta, by: str, reason: str) -> Sequence[KeyRow]:
        """Add a key and let the older one end after the overlap; return the live keys.

        Raises NotFoundError, or ConflictError when two keys are live already: revoke one, or wait for its end.
        """
        with self._decided(department, "rotate-key", by, reason) as cursor:
            live = self._live(cursor, department)
            if len(live) >= MAX_LIVE_KEYS:
                raise ConflictError(f"{department} 已有两把有效密钥，先废止一把 (two keys are live; revoke one first)")
            for old in live:
                cursor.execute(_read("key_expire"), (overlap, old.id, department))
            self._add_key(cursor, department, key)
        return self.keys(department)

    def revoke(self, department: str, key_id: str, by: str, reason: str) -> Sequence[KeyRow]:
        """End a key at once; return the keys that stay live. Raises NotFoundError."""
        with self._decided(department, "revoke-key", by, reason) as cursor:
            if key_id not in {key.id for key in self._live(cursor, department)}:
                raise NotFoundError(f"{department} 没有有效密钥 {key_id} (no such live key)")
            cursor.execute(_read("key_expire"), (timedelta(0), key_id, department))
        return self.keys(department)

    @contextmanager
    def _decided(self, department: str, action: str, by: str, reason: str) -> Iterator[Cursor[DictRow]]:
        """Lock the department, let the caller change it, then record the decision and announce the change."""
        with self._changing() as cursor:
            row = self._touched(cursor, department)
            yield cursor
            cursor.execute(_read("decision_add"), (row.id, row.version, action, by, reason))
            self._announce(cursor, row)

    @staticmethod
    def _touched(cursor: Cursor[DictRow], department: str) -> DepartmentRow:
        """Lock a department and return it in its next version."""
        found = cursor.execute(_read("department_touch"), (department,)).fetchone()
        if found is None:
            raise NotFoundError(f"没有部门 {department} (no such department)")
        return DepartmentRow(**found)

    @contextmanager
    def _changing(self) -> Iterator[Cursor[DictRow]]:
        with transaction(self._pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
            yield cursor

    @staticmethod
    def _add_key(cursor: Cursor[DictRow], department: str, key: str) -> None:
        digest = key_digest(key)
        cursor.execute(_read("key_add"), (f"key-{digest[:12]}", department, digest))

    @staticmethod
    def _live(cursor: Cursor[DictRow], department: str) -> Sequence[KeyRow]:
        return [KeyRow(**row) for row in cursor.execute(_read("key_live"), (department,))]

    def _announce(self, cursor: Cursor[DictRow], row: DepartmentRow) -> None:
        document = _document(row, self._live(cursor, row.id))
        control_outbox.append(cursor.connection, "identities", f"department/{row.id}", document)


def _values(department: DepartmentRow) -> dict[str, Any]:
    return asdict(department) | {"divisions": Jsonb(dict(department.divisions))}


def _read(name: str) -> bytes:
    return (_SQL / f"{name}.sql").read_bytes()


def _document(department: DepartmentRow, keys: Sequence[KeyRow]) -> dict[str, Any]:
    shown = [
        {"id": k.id, "digest": k.digest, "expires_at": k.expires_at.isoformat() if k.expires_at else None} for k in keys
    ]
    return asdict(department) | {"keys": shown}
