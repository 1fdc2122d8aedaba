"""The outbox of configuration changes: written in the change's own transaction, carried to Kafka by the relay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, LiteralString

import psycopg
from psycopg.types.json import Jsonb

CHANNEL = "control_outbox"
_INSERT: LiteralString = "INSERT INTO control_outbox (topic, key, value) VALUES (%s, %s, %s)"
_NOTIFY: LiteralString = "SELECT pg_notify('control_outbox', '')"
# One relay at a time; the lock ends with the transaction.
_LOCK: LiteralString = "SELECT pg_try_advisory_xact_lock(hashtext('hongyan.control_outbox'))"
_NEXT: LiteralString = "SELECT id, topic, key, value FROM control_outbox ORDER BY id LIMIT %s"
_DELETE: LiteralString = "DELETE FROM control_outbox WHERE id = ANY(%s)"

ControlTopic = Literal["subscriptions", "identities"]
OutboxRow = tuple[int, ControlTopic, str, dict[str, Any] | None]


def append(connection: psycopg.Connection, topic: ControlTopic, key: str, value: Mapping[str, Any] | None) -> None:
    """Add a change to the outbox, in the caller's transaction."""
    connection.execute(_INSERT, (topic, key, Jsonb(dict(value)) if value is not None else None))
    connection.execute(_NOTIFY)


def next_rows(connection: psycopg.Connection, limit: int) -> list[OutboxRow]:
    """Return the oldest changes, or none while another relay is at work. The lock holds until the transaction ends."""
    locked = connection.execute(_LOCK).fetchone()
    return connection.execute(_NEXT, (limit,)).fetchall() if locked and locked[0] else []


def delete_rows(connection: psycopg.Connection, ids: list[int]) -> None:
    """Remove changes that Kafka has acknowledged."""
    connection.execute(_DELETE, (ids,))
