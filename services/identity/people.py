"""People: who applies for an agency, who decides for a department, who administers; keys are kept as digests."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from services.identity.repository import key_digest
from services.runtime.database import transaction
from services.runtime.errors import FieldProblem, InvalidError, NotFoundError

KEY_START = "hyp_"
_SQL = Path(__file__).parent / "sql"


class Role(StrEnum):
    """What somebody does in the portal. 三员分立 (GB/T 22239): a person is at most one of the three administrators."""

    SYSTEM = "system"
    """系统管理员: runs operations."""
    SECURITY = "security"
    """安全管理员: accounts, rights, unlocking, keys."""
    AUDIT = "audit"
    """审计管理员: reads the audit log, which nobody changes."""
    STATISTICIAN = "statistician"
    """统计员: counts and closes months."""


ADMINISTRATORS = frozenset({Role.SYSTEM, Role.SECURITY, Role.AUDIT})


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody of an agency (who applies), of a department (who decides on the types ``approves``), or with roles."""

    id: str
    name: str
    agency: str | None = None
    department: str | None = None
    approves: Sequence[str] = field(default_factory=list)
    roles: Sequence[str] = field(default_factory=list)
    state: Literal["active", "disabled"] = "active"

    def owns(self, types: Sequence[str]) -> bool:
        """Tell whether this person decides for the owner of all these types."""
        return bool(types) and set(types) <= set(self.approves)


def new_person_key() -> str:
    """Return a new key: shown once, kept as a digest."""
    return KEY_START + secrets.token_urlsafe(32)


def standing_problems(person: Person) -> list[FieldProblem]:
    """Return what contradicts itself in who somebody is to be."""
    administrates = ADMINISTRATORS & {Role(name) for name in person.roles}
    if person.agency is None and person.department is None and not person.roles:
        detail = "应属于接收单位或发布部门，或有角色 (belongs to an agency or a department, or has a role)"
        return [FieldProblem("/agency", detail)]
    if len(administrates) > 1:
        detail = (
            "三员分立：一人至多是系统、安全、审计管理员之一 (one person is at most one of the three administrators)"
        )
        return [FieldProblem("/roles", detail)]
    if administrates and (person.agency or person.department):
        detail = "管理员不属于任何单位 (an administrator belongs to no agency or department)"
        return [FieldProblem("/roles", detail)]
    return []


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

    def change(self, person: Person) -> None:
        """Keep somebody's name, roles, approvals and state as they are given; raises NotFoundError."""
        with transaction(self._pool) as connection:
            if connection.execute(_read("person_change"), asdict(person)).rowcount == 0:
                raise NotFoundError(f"没有这个人员 (no such person): {person.id}")

    def everybody(self) -> list[Person]:
        """Return all people by id."""
        return self._find("true", ())

    def get(self, person: str) -> Person | None:
        """Return somebody by id."""
        return next(iter(self._find("id = %s", (person,))), None)

    def by_key(self, key: str) -> Person | None:
        """Return whose key this is; somebody who is disabled has none."""
        return next(iter(self._find("key_digest = %s AND state = 'active'", (key_digest(key),))), None)

    def _find(self, condition: str, values: Sequence[str]) -> list[Person]:
        query = f"{_read('person_list').decode()} WHERE {condition} ORDER BY id"
        with transaction(self._pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
            return [Person(**row) for row in cursor.execute(query.encode(), tuple(values))]


def _read(name: str) -> bytes:
    return (_SQL / f"{name}.sql").read_bytes()
