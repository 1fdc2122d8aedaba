"""People: who applies for an agency and who decides for a department, each with a key that is kept as a digest."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from services.identity.repository import key_digest
from services.runtime.database import transaction
from services.runtime.errors import FieldProblem, InvalidError

KEY_START = "hyp_"
_SQL = Path(__file__).parent / "sql"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody of an agency (who applies), of a department (who decides on the types in ``approves``), or of both."""

    id: str
    name: str
    agency: str | None = None
    department: str | None = None
    approves: Sequence[str] = field(default_factory=list)

    def owns(self, types: Sequence[str]) -> bool:
        """Tell whether this person decides for the owner of all these types."""
        return bool(types) and set(types) <= set(self.approves)


def new_person_key() -> str:
    """Return a new key: shown once, kept as a digest."""
    return KEY_START + secrets.token_urlsafe(32)


class PersonRepository:
    """People in PostgreSQL."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def add(self, person: Person, key: str) -> None:
        """Add somebody with a key; raises ConflictError (id taken) or InvalidError (no such agency or department)."""
        try:
            with transaction(self._pool) as connection:
                connection.execute(_read("person_add"), asdict(person) | {"digest": key_digest(key)})
        except psycopg.errors.ForeignKeyViolation as error:
            unit = "agency" if "agency" in str(error.diag.constraint_name) else "department"
            raise InvalidError([FieldProblem(f"/{unit}", "没有这个单位 (no such unit)")]) from error

    def everybody(self) -> list[Person]:
        """Return all people by id."""
        return self._find("true", ())

    def get(self, person: str) -> Person | None:
        """Return somebody by id."""
        return next(iter(self._find("id = %s", (person,))), None)

    def by_key(self, key: str) -> Person | None:
        """Return whose key this is."""
        return next(iter(self._find("key_digest = %s", (key_digest(key),))), None)

    def _find(self, condition: str, values: Sequence[str]) -> list[Person]:
        query = f"{_read('person_list').decode()} WHERE {condition} ORDER BY id"
        with transaction(self._pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
            return [Person(**row) for row in cursor.execute(query.encode(), tuple(values))]


def _read(name: str) -> bytes:
    return (_SQL / f"{name}.sql").read_bytes()
