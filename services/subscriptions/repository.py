"""Agencies in PostgreSQL: where their feeds go, how, signed with what; every change with its decision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

from services.runtime import control_outbox
from services.runtime.database import transaction
from services.runtime.errors import ConflictError, InvalidError, NotFoundError
from services.runtime.errors import FieldProblem as Problem

MAX_LIVE_KEYS = 2
_SQL = Path(__file__).parent / "sql"


@dataclass(frozen=True, slots=True)
class Decision:
    """Who decided, and why."""

    by: str
    reason: str


KeyKind = Literal["hmac", "ed25519"]


@dataclass(frozen=True, slots=True)
class NewKey:
    """A signing key to add: sealed, and for ed25519 the public half that receivers verify with."""

    id: str
    kind: KeyKind
    sealed: str
    public: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What is to change of an agency; None leaves as it is."""

    sink: str | None = None
    state: Literal["active", "suspended"] | None = None
    delivery: Mapping[str, Any] | None = None
    verified: bool = False


class AgencyRepository:
    """Agencies with their signing keys."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def add(self, agency: Mapping[str, Any], key: NewKey, decision: Decision) -> DictRow:
        """Add an agency (id, name, division, sink, delivery, verified) with its first key; raises ConflictError."""
        with self._changing() as cursor:
            values = {**agency, "delivery": Jsonb(agency["delivery"])}
            row = cursor.execute(_read("agency_add"), values).fetchone()
            if row is None:
                raise NotFoundError(f"没有 {agency['id']} (no such agency)")
            self._add_key(cursor, row["id"], key)
            return self._record(cursor, row, "add", decision)

    def list(self) -> Sequence[DictRow]:
        """Return all agencies by id, with their channels and live keys."""
        with self._changing() as cursor:
            rows = cursor.execute(_read("agency_list")).fetchall()
            keys: dict[str, list[DictRow]] = {row["id"]: [] for row in rows}
            for key in cursor.execute(_read("agency_keys_live")):
                keys.setdefault(key.pop("agency"), []).append(key)
            return [row | {"keys": keys[row["id"]]} for row in rows]

    def get(self, agency: str) -> DictRow:
        """Return one agency; raises NotFoundError."""
        found = next((row for row in self.list() if row["id"] == agency), None)
        if found is None:
            raise NotFoundError(f"没有接收单位 {agency} (no such agency)")
        return found

    def change(self, agency: str, action: str, change: Change, decision: Decision) -> DictRow:
        """Change an agency; raises NotFoundError."""
        with self._changing() as cursor:
            return self._record(cursor, self._touch(cursor, agency, change), action, decision)

    def rotate(self, agency: str, key: NewKey, overlap: timedelta, decision: Decision) -> DictRow:
        """Add a key and let the older one of its kind end after the overlap.

        Raises NotFoundError, or ConflictError when two keys of the kind are live already.
        """
        with self._changing() as cursor:
            row = self._touch(cursor, agency, Change())
            live = [one for one in self._live(cursor, agency) if one["kind"] == key.kind]
            if len(live) >= MAX_LIVE_KEYS:
                detail = f"{agency} 已有两把有效的 {key.kind} 密钥，先废止一把 (two are live; revoke one first)"
                raise ConflictError(detail)
            for old in live:
                cursor.execute(_read("agency_key_expire"), (overlap, old["id"], agency))
            self._add_key(cursor, agency, key)
            return self._record(cursor, row, "rotate-key", decision)

    def revoke(self, agency: str, key_id: str, decision: Decision) -> DictRow:
        """End a key at once; raises NotFoundError, or ConflictError for the last one: what is sent must be signed."""
        with self._changing() as cursor:
            row = self._touch(cursor, agency, Change())
            live = {one["id"] for one in self._live(cursor, agency)}
            if key_id not in live:
                raise NotFoundError(f"{agency} 没有有效密钥 {key_id} (no such live key)")
            if len(live) == 1:
                raise ConflictError(f"{key_id} 是 {agency} 的最后一把密钥，先换发 (the last key; rotate first)")
            cursor.execute(_read("agency_key_expire"), (timedelta(0), key_id, agency))
            return self._record(cursor, row, "revoke-key", decision)

    def add_evidence(self, agency: str, digest: str, passed: bool, document: Mapping[str, Any]) -> None:
        """Keep the result of a receiver check; the same one again changes nothing. Raises InvalidError."""
        with self._changing() as cursor:
            try:
                cursor.execute(_read("agency_evidence_add"), (agency, digest, passed, Jsonb(dict(document))))
            except psycopg.errors.ForeignKeyViolation as error:
                raise InvalidError([Problem("/agency", f"没有接收单位 {agency} (no such agency)")]) from error

    def evidence(self, agency: str) -> Sequence[DictRow]:
        """Return the newest results of receiver checks."""
        with self._changing() as cursor:
            return cursor.execute(_read("agency_evidence_list"), (agency,)).fetchall()

    def paused(self, agency: str) -> DictRow | None:
        """Return who last paused an agency, why and when; None where nobody ever did."""
        with self._changing() as cursor:
            return cursor.execute(_read("agency_paused"), (agency,)).fetchone()

    @contextmanager
    def _changing(self) -> Iterator[psycopg.Cursor[DictRow]]:
        with transaction(self._pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
            yield cursor

    @staticmethod
    def _touch(cursor: psycopg.Cursor[DictRow], agency: str, change: Change) -> DictRow:
        delivery = Jsonb(dict(change.delivery)) if change.delivery is not None else None
        row = cursor.execute(_read("agency_change"), asdict(change) | {"id": agency, "delivery": delivery}).fetchone()
        if row is None:
            raise NotFoundError(f"没有接收单位 {agency} (no such agency)")
        return row

    @staticmethod
    def _add_key(cursor: psycopg.Cursor[DictRow], agency: str, key: NewKey) -> None:
        cursor.execute(_read("agency_key_add"), asdict(key) | {"agency": agency})

    @staticmethod
    def _live(cursor: psycopg.Cursor[DictRow], agency: str) -> Sequence[DictRow]:
        return cursor.execute(_read("agency_key_live"), (agency,)).fetchall()

    def _record(self, cursor: psycopg.Cursor[DictRow], row: DictRow, action: str, decision: Decision) -> DictRow:
        """Record the decision, announce the change, and return the agency with its live keys."""
        cursor.execute(
            _read("decision_add"), ("agency", row["id"], row["version"], action, decision.by, decision.reason)
        )
        keys = self._live(cursor, row["id"])
        control_outbox.append(cursor.connection, "subscriptions", f"agency/{row['id']}", _document(row, keys))
        return row | {"keys": keys}


def _document(row: DictRow, keys: Sequence[DictRow]) -> dict[str, Any]:
    """Return an agency as the processes follow it."""
    shown = [{"id": k["id"], "sealed": k["sealed"], "expires_at": plain(k)["expires_at"]} for k in keys]
    rest = {name: value for name, value in row.items() if name != "verified_at"}
    return plain(rest) | {"verified": row["verified_at"] is not None, "keys": shown}


def _read(name: str) -> bytes:
    return (_SQL / f"{name}.sql").read_bytes()


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as JSON values."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
