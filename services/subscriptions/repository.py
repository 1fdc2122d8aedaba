"""Agencies in PostgreSQL: a change writes its decision and its outbox row together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool

from services.runtime import control_outbox
from services.runtime.database import transaction
from services.runtime.errors import NotFoundError

_SQL = Path(__file__).parent / "sql"


@dataclass(frozen=True, slots=True)
class Decision:
    """Who decided, and why."""

    by: str
    reason: str


class SubscriptionRepository:
    """Agencies."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def add_agency(self, agency: Mapping[str, str], decision: Decision) -> DictRow:
        """Add an agency (id, name, division, sink, sealed secret); raises ConflictError when the id is taken."""
        with self._changing() as cursor:
            row = _one(cursor.execute(_read("agency_add"), agency), agency["id"])
            self._record_agency(cursor, row, "add", decision)
            return row

    def agencies(self) -> list[DictRow]:
        """Return all agencies by id."""
        with self._changing() as cursor:
            return cursor.execute(_read("agency_list")).fetchall()

    def set_agency(
        self, agency: str, decision: Decision, *, sink: str | None = None, state: str | None = None
    ) -> DictRow:
        """Change where an agency's feed goes, or suspend and resume it; raises NotFoundError."""
        with self._changing() as cursor:
            row = _one(cursor.execute(_read("agency_set"), {"id": agency, "sink": sink, "state": state}), agency)
            self._record_agency(cursor, row, state or "change", decision)
            return row

    @contextmanager
    def _changing(self) -> Iterator[psycopg.Cursor[DictRow]]:
        with transaction(self._pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
            yield cursor

    def _record_agency(self, cursor: psycopg.Cursor[DictRow], row: DictRow, action: str, decision: Decision) -> None:
        cursor.execute(
            _read("decision_add"), ("agency", row["id"], row["version"], action, decision.by, decision.reason)
        )
        control_outbox.append(cursor.connection, "subscriptions", f"agency/{row['id']}", plain(row))


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as JSON values."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}


def _one(cursor: psycopg.Cursor[DictRow], name: str) -> DictRow:
    row = cursor.fetchone()
    if row is None:
        raise NotFoundError(f"没有 {name} (no such thing)")
    return row


def _read(name: str) -> bytes:
    return (_SQL / f"{name}.sql").read_bytes()
