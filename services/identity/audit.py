"""The audit log: what people did and what personal data they looked at. It grows and is never changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

from services.runtime.database import transaction
from services.runtime.errors import DatabaseUnavailableError

Outcome = Literal["begun", "done", "failed", "refused"]
_SQL = Path(__file__).parent / "sql"


@dataclass(frozen=True, slots=True)
class Deed:
    """One line to write: who, in which roles and from where, did what to what and why; which fields were seen."""

    person: str
    action: str
    object: str
    roles: Sequence[str] = ()
    address: str = ""
    reason: str = ""
    outcome: Outcome = "done"
    fields: Sequence[str] = ()
    detail: dict[str, Any] = field(default_factory=dict)
    begun: int | None = None
    """The line written before the act, where this one says how it ended."""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What to look for; ``action`` and ``object`` are beginnings, ``before`` is the id that a page ends before."""

    person: str | None = None
    action: str | None = None
    object: str | None = None
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None


class AuditRepository:
    """The audit log in PostgreSQL, append-only there by a trigger."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def add(self, deed: Deed) -> int:
        """Write a line and return its number; raises DatabaseUnavailableError when it can't be kept."""
        values = asdict(deed) | {
            "roles": list(deed.roles),
            "fields": list(deed.fields),
            "detail": Jsonb(deed.detail),
        }
        with transaction(self._pool) as connection:
            written = connection.execute((_SQL / "audit_add.sql").read_bytes(), values).fetchone()
        if written is None:
            raise DatabaseUnavailableError("the audit log returned no line")
        return int(written[0])

    def search(self, wanted: AuditFilter, limit: int) -> list[dict[str, Any]]:
        """Return the newest lines that fit, newest first."""
        values = asdict(wanted) | {"limit": limit}
        for name in ("action", "object"):
            if values[name] is not None:
                values[name] = values[name].replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_") + "%"
        with transaction(self._pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute((_SQL / "audit_search.sql").read_bytes(), values).fetchall()
