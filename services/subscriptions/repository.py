"""Agencies and subscriptions in PostgreSQL: a change writes its version, its decision and its outbox row together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

from services.runtime import control_outbox
from services.runtime.database import transaction
from services.runtime.errors import ConflictError, FieldProblem, InvalidError, NotFoundError

_SQL = Path(__file__).parent / "sql"


@dataclass(frozen=True, slots=True)
class Decision:
    """Who decided, and why."""

    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Grant:
    """What is granted: event types and filters, and the legal part (使用依据、场景、范围、方式、时限)."""

    agency: str
    types: Sequence[str]
    filters: Sequence[Mapping[str, Any]]
    basis: str
    scene: str
    scope: str
    method: str
    valid_until: datetime | None


class SubscriptionRepository:
    """Agencies and their subscriptions."""

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

    def add(self, subscription: str, grant: Grant, decision: Decision) -> DictRow:
        """Add an active subscription; raises InvalidError when there is no such agency."""
        values = {
            "id": subscription,
            "agency": grant.agency,
            "types": list(grant.types),
            "filters": Jsonb(list(grant.filters)),
            "basis": grant.basis,
            "scene": grant.scene,
            "scope": grant.scope,
            "method": grant.method,
            "valid_until": grant.valid_until,
        }
        with self._changing() as cursor:
            try:
                row = _one(cursor.execute(_read("subscription_add"), values), subscription)
            except psycopg.errors.ForeignKeyViolation as error:
                raise InvalidError([FieldProblem("/agency", f"没有这个接收单位 (no agency {grant.agency})")]) from error
            self._record(cursor, row, "approve", decision)
            return row

    def subscriptions(self) -> list[DictRow]:
        """Return all subscriptions, oldest first."""
        with self._changing() as cursor:
            return cursor.execute(_read("subscription_list")).fetchall()

    def set_state(self, subscription: str, action: Literal["suspend", "resume"], decision: Decision) -> DictRow:
        """Suspend or resume; raises NotFoundError, or ConflictError when it is not in the state to do so."""
        from_, to = ("active", "suspended") if action == "suspend" else ("suspended", "active")
        with self._changing() as cursor:
            found = cursor.execute(_read("subscription_set_state"), {"id": subscription, "from": from_, "to": to})
            row = found.fetchone()
            if row is None:
                known = {r["id"]: r["state"] for r in cursor.execute(_read("subscription_list")).fetchall()}
                if subscription not in known:
                    raise NotFoundError(f"没有这个订阅 (no subscription {subscription})")
                raise ConflictError(f"订阅 {subscription} 的状态是 {known[subscription]} (its state is not {from_})")
            self._record(cursor, row, action, decision)
            return row

    @contextmanager
    def _changing(self) -> Iterator[psycopg.Cursor[DictRow]]:
        with transaction(self._pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
            yield cursor

    def _record(self, cursor: psycopg.Cursor[DictRow], row: DictRow, action: str, decision: Decision) -> None:
        document = plain(row)
        cursor.execute(_read("version_add"), (row["id"], row["version"], Jsonb(document)))
        cursor.execute(
            _read("decision_add"),
            ("subscription", row["id"], row["version"], action, decision.by, decision.reason),
        )
        control_outbox.append(cursor.connection, "subscriptions", f"subscription/{row['id']}", document)

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
