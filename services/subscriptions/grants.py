"""Grants in PostgreSQL: each decision writes its version, its record and its outbox row in one transaction.

Drafts and applications stay here; from its approval on a grant is on the control topic, and stays there when it has
ended, since whoever follows must learn of the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

from services.runtime import control_outbox
from services.runtime.clock import Clock
from services.runtime.database import transaction
from services.runtime.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from services.subscriptions.control import Subscription, policy_id
from services.subscriptions.lifecycle import Action, Actor, Standing, decide, shown_state
from services.subscriptions.repository import plain

_SQL = Path(__file__).parent / "sql"
_UNANNOUNCED = {"draft", "submitted"}
Check = Callable[["Grant"], None]


@dataclass(frozen=True, slots=True)
class Grant:
    """What is granted: types and filters, the legal part (使用依据、场景、范围、方式、时限), and how far it reaches.

    ``fields`` is the field policy (None: whole events), ``divisions`` the prefixes of GB/T 2260 codes that it reaches
    (none: the agency's own division), ``forward_to`` the agencies that it may be passed on to (省→市州),
    ``backfill_from`` how far back it begins, and ``replaces`` the grant that ends when this one is approved.
    """

    agency: str
    types: Sequence[str]
    filters: Sequence[Mapping[str, Any]]
    basis: str
    scene: str
    scope: str
    method: str
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    backfill_from: datetime | None = None
    fields: Mapping[str, Any] | None = None
    divisions: Sequence[str] = ()
    forward_to: Sequence[str] = ()
    replaces: str | None = None


class GrantRepository:
    """Subscriptions, their versions and the decisions on them."""

    def __init__(self, pool: ConnectionPool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock

    def draft(self, subscription: str, grant: Grant, actor: Actor, reason: str) -> dict[str, Any]:
        """Add a draft; raises InvalidError (no such agency) or ForbiddenError (not by this person)."""
        standing = Standing(grant.agency, grant.types, "draft")
        decide("edit", standing, actor, self._clock.now())
        with self._changing(grant) as cursor:
            row = _one(cursor.execute(_read("subscription_add"), _values(subscription, grant, actor)), subscription)
            self._record(cursor, row, "draft", actor, reason)
            return self.shown(row)

    def edit(self, subscription: str, grant: Grant, actor: Actor, reason: str) -> dict[str, Any]:
        """Change a draft; raises NotFoundError, ConflictError, ForbiddenError or InvalidError (another agency's)."""
        with self._changing(grant) as cursor:
            held = self._lock(cursor, subscription)
            decide("edit", self._standing(cursor, held), actor, self._clock.now())
            if held["agency"] != grant.agency:
                raise InvalidError([FieldProblem("/agency", "接收单位不能更改 (the agency can't be changed)")])
            row = _one(cursor.execute(_read("subscription_edit"), _values(subscription, grant, actor)), subscription)
            self._record(cursor, row, "edit", actor, reason)
            return self.shown(row)

    def act(
        self, subscription: str, action: Action, actor: Actor, reason: str, check: Check, version: int | None = None
    ) -> dict[str, Any]:
        """Take a decision, once: of two at the same time the second finds the state changed (ConflictError).

        ``check`` looks at the grant again before it is submitted or approved; ``version`` is what the person has seen.
        """
        with self._changing() as cursor:
            held = self._lock(cursor, subscription)
            if version is not None and version != held["version"]:
                raise ConflictError(f"{subscription} 已是第 {held['version']} 版 (it has changed: now this version)")
            state = decide(action, self._standing(cursor, held), actor, self._clock.now())
            if action in {"submit", "approve"}:
                check(grant_of(held))
            row = self._move(cursor, held, action, state, actor, reason)
            if action == "approve" and row["replaces"] is not None:
                self._end_replaced(cursor, row, actor)
            return self.shown(row)

    def list(self) -> list[dict[str, Any]]:
        """Return all subscriptions, oldest first, each in the state in which it stands now."""
        with self._changing() as cursor:
            return [self.shown(row) for row in cursor.execute(_read("subscription_list"))]

    def get(self, subscription: str) -> dict[str, Any]:
        """Return one with the decisions on it; raises NotFoundError."""
        with self._changing() as cursor:
            row = _one(cursor.execute(_read("subscription_get"), (subscription,)), subscription)
            decisions = cursor.execute(_read("decision_list"), (subscription,)).fetchall()
            return self.shown(row) | {"decisions": [plain(one) for one in decisions]}

    def version(self, subscription: str, version: int) -> dict[str, Any] | None:
        """Return a grant as it stood in a version, None when there is none."""
        with self._changing() as cursor:
            found = cursor.execute(_read("version_get"), (subscription, version)).fetchone()
            return found["document"] if found else None

    def versions(self, subscription: str) -> dict[int, dict[str, Any]]:
        """Return a grant as it stood in each of its versions, the oldest first."""
        with self._changing() as cursor:
            rows = cursor.execute(_read("version_list"), (subscription,)).fetchall()
            return {row["version"]: row["document"] for row in rows}

    def shown(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row as JSON values, in the state in which it stands now."""
        state = shown_state(row["state"], row["valid_from"], row["valid_until"], self._clock.now())
        return plain(row) | {"state": state}

    def _end_replaced(self, cursor: psycopg.Cursor[DictRow], row: DictRow, actor: Actor) -> None:
        """End the grant that this one takes the place of, after it on the control topic: no event falls between."""
        held = self._lock(cursor, row["replaces"])
        if held["state"] != "terminated":
            decide("terminate", self._standing(cursor, held), actor, self._clock.now())
            self._move(cursor, held, "terminate", "terminated", actor, f"由 {row['id']} 取代 (replaced)")

    def _move(
        self, cursor: psycopg.Cursor[DictRow], held: DictRow, action: Action, state: str, actor: Actor, reason: str
    ) -> DictRow:
        person = actor.person.id if actor.person else None
        values = {
            "id": held["id"],
            "state": state,
            "applicant": person if action == "submit" else None,
            "approver": person if action == "approve" else None,
        }
        row = _one(cursor.execute(_read("subscription_move"), values), held["id"])
        self._record(cursor, row, action, actor, reason)
        return row

    def _record(self, cursor: psycopg.Cursor[DictRow], row: DictRow, action: str, actor: Actor, reason: str) -> None:
        document = plain(row)
        cursor.execute(_read("version_add"), (row["id"], row["version"], Jsonb(document)))
        decision = (row["id"], row["version"], action, actor.name, actor.entered_by, reason)
        cursor.execute(_read("grant_decision_add"), decision)
        if row["state"] in _UNANNOUNCED:
            return
        if row["fields"] is not None:
            # Policies are kept by what they say: a follow-up goes by the one that its original went by, whenever.
            key = f"policy/{policy_id(row['fields'])}"
            control_outbox.append(cursor.connection, "subscriptions", key, row["fields"])
        known = {name: document[name] for name in Subscription.__dataclass_fields__}
        control_outbox.append(cursor.connection, "subscriptions", f"subscription/{row['id']}", known)

    @staticmethod
    def _lock(cursor: psycopg.Cursor[DictRow], subscription: str) -> DictRow:
        return _one(cursor.execute(_read("subscription_lock"), (subscription,)), subscription)

    @staticmethod
    def _standing(cursor: psycopg.Cursor[DictRow], row: DictRow) -> Standing:
        applied = {one["decided_by"] for one in cursor.execute(_read("applied"), (row["id"],))}
        times = (row["valid_from"], row["valid_until"])
        return Standing(row["agency"], row["types"], row["state"], *times, applied)

    @contextmanager
    def _changing(self, grant: Grant | None = None) -> Iterator[psycopg.Cursor[DictRow]]:
        try:
            with transaction(self._pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
                yield cursor
        except psycopg.errors.ForeignKeyViolation as error:
            named = "replaces" if "replaces" in str(error.diag.constraint_name) else "agency"
            value = getattr(grant, named, None)
            raise InvalidError([FieldProblem(f"/{named}", f"没有 {value} (there is no such {named})")]) from error


def grant_of(row: Mapping[str, Any]) -> Grant:
    """Return what a row grants."""
    return Grant(**{name: row[name] for name in Grant.__dataclass_fields__})


def _values(subscription: str, grant: Grant, actor: Actor) -> dict[str, Any]:
    return asdict(grant) | {
        "id": subscription,
        "types": list(grant.types),
        "filters": Jsonb(list(grant.filters)),
        "fields": Jsonb(dict(grant.fields)) if grant.fields is not None else None,
        "divisions": list(grant.divisions),
        "forward_to": list(grant.forward_to),
        "applicant": actor.person.id if actor.person else None,
    }


def _one(cursor: psycopg.Cursor[DictRow], name: str) -> DictRow:
    row = cursor.fetchone()
    if row is None:
        raise NotFoundError(f"没有订阅 {name} (no such subscription)")
    return row


def _read(name: str) -> bytes:
    return (_SQL / f"{name}.sql").read_bytes()
