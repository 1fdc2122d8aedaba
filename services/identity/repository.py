"""Publishing departments and their keys."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path

from psycopg.rows import class_row
from psycopg_pool import ConnectionPool

from services.runtime import control_outbox
from services.runtime.database import transaction

KEY_START = "hyk_"
_SQL = Path(__file__).parent / "sql"


@dataclass(frozen=True, slots=True)
class DepartmentRow:
    """A department as it is kept."""

    id: str
    name: str
    source: str
    key_hash: str
    types: list[str]


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

    def add(self, department: DepartmentRow) -> None:
        """Add a department; raises ConflictError when the id or the source is taken."""
        values = (department.id, department.name, department.source, department.key_hash, department.types)
        with transaction(self._pool) as connection:
            connection.execute(_read("department_add"), values)
            control_outbox.append(connection, "identities", f"department/{department.id}", _document(department))

    def list(self) -> list[DepartmentRow]:
        """Return all departments by id."""
        with (
            transaction(self._pool) as connection,
            connection.cursor(row_factory=class_row(DepartmentRow)) as cursor,
        ):
            return cursor.execute(_read("department_list")).fetchall()


def _read(name: str) -> bytes:
    return (_SQL / f"{name}.sql").read_bytes()


def _document(department: DepartmentRow) -> dict[str, object]:
    return {
        "id": department.id,
        "name": department.name,
        "source": department.source,
        "key_hash": department.key_hash,
        "types": department.types,
    }
