"""How agencies take their feeds: channel, keys of their own, and what their signed receipts are verified with."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg import Cursor
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool

from schemas.receipts import Channel
from services.identity.repository import MAX_LIVE_KEYS, KeyRow, key_digest
from services.runtime import control_outbox
from services.runtime.database import transaction
from services.runtime.errors import ConflictError, NotFoundError

AGENCY_KEY_START = "hya_"
_SQL = Path(__file__).parent / "sql"


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An agency's key: its digest (SHA-256, hex), and when it ends by itself."""

    id: str
    digest: str
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """How one agency takes its feed, as the processes follow it (``access/<agency>`` on the control topic).

    ``kafka_user`` tells whether a Kafka user was made for it, whichever channel it takes now.
    """

    agency: str
    channel: Channel = "webhook"
    keys: Sequence[AccessKey] = ()
    ack_key: str | None = None
    version: int = 0
    kafka_user: bool = False

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Access:
        """Read a control record."""
        keys = [
            AccessKey(k["id"], k["digest"], datetime.fromisoformat(k["expires_at"]) if k.get("expires_at") else None)
            for k in entry.get("keys", ())
        ]
        ack_key, version = entry.get("ack_key"), entry.get("version", 0)
        return cls(entry["agency"], entry["channel"], keys, ack_key, version, entry.get("kafka_user", False))


def new_agency_key() -> str:
    """Return a new key of an agency: shown once, kept as a digest."""
    return AGENCY_KEY_START + secrets.token_urlsafe(32)


class AccessRepository:
    """Agencies' access in PostgreSQL; every change goes to the outbox in the same transaction."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def get(self, agency: str) -> dict[str, Any]:
        """Return an agency's access with its live keys by id; raises NotFoundError."""
        with self._changing() as cursor:
            row = cursor.execute(_read("access_get"), (agency,)).fetchone()
            if row is None:
                raise NotFoundError(f"没有接收单位 {agency} (no such agency)")
            return _document(row, self._live(cursor, agency))

    def set_channel(self, agency: str, channel: Channel, by: str, reason: str) -> dict[str, Any]:
        """Let an agency take its feed by another channel, from its cursor on."""
        with self._decided(agency, f"channel-{channel}", by, reason, channel=channel):
            pass
        return self.get(agency)

    def set_ack_key(self, agency: str, ack_key: str, by: str, reason: str) -> dict[str, Any]:
        """Keep what an agency's signed receipts are verified with: a public key, or a sealed secret."""
        with self._decided(agency, "ack-key", by, reason, ack_key=ack_key):
            pass
        return self.get(agency)

    def note_kafka_user(self, agency: str, by: str, reason: str) -> None:
        """Keep that a Kafka user was made for an agency: whoever guards its feed sees to that user's rights."""
        with self._decided(agency, "kafka-user", by, reason, kafka_user=True):
            pass

    def rotate(self, agency: str, key: str, overlap: timedelta, by: str, reason: str) -> dict[str, Any]:
        """Add a key and let the older one end after the overlap; raises ConflictError when two are live already."""
        with self._decided(agency, "access-key", by, reason) as cursor:
            live = self._live(cursor, agency)
            if len(live) >= MAX_LIVE_KEYS:
                raise ConflictError(f"{agency} 已有两把有效密钥，先废止一把 (two keys are live; revoke one first)")
            for old in live:
                cursor.execute(_read("access_key_expire"), (overlap, old.id, agency))
            digest = key_digest(key)
            cursor.execute(_read("access_key_add"), (f"key-{digest[:12]}", agency, digest))
        return self.get(agency)

    def revoke(self, agency: str, key_id: str, by: str, reason: str) -> dict[str, Any]:
        """End a key at once; raises NotFoundError."""
        with self._decided(agency, "revoke-access-key", by, reason) as cursor:
            if key_id not in {key.id for key in self._live(cursor, agency)}:
                raise NotFoundError(f"{agency} 没有有效密钥 {key_id} (no such live key)")
            cursor.execute(_read("access_key_expire"), (timedelta(0), key_id, agency))
        return self.get(agency)

    def agency_of(self, key: str) -> str | None:
        """Return whose live key this is, None for nobody's."""
        return self._owner("access_key_owner", key)

    def source_of(self, key: str) -> str | None:
        """Return the source of the department whose live key this is, None for nobody's."""
        return self._owner("department_key_owner", key)

    def _owner(self, query: str, key: str) -> str | None:
        with self._changing() as cursor:
            row = cursor.execute(_read(query), (key_digest(key),)).fetchone()
            return str(next(iter(row.values()))) if row else None

    @contextmanager
    def _decided(
        self,
        agency: str,
        action: str,
        by: str,
        reason: str,
        *,
        channel: Channel | None = None,
        ack_key: str | None = None,
        kafka_user: bool | None = None,
    ) -> Iterator[Cursor[DictRow]]:
        """Change what is given, let the caller change keys, then record the decision and announce the change."""
        with self._changing() as cursor:
            values = {"agency": agency, "channel": channel, "ack_key": ack_key, "kafka_user": kafka_user}
            try:
                row = cursor.execute(_read("access_change"), values).fetchone()
            except psycopg.errors.ForeignKeyViolation as error:
                raise NotFoundError(f"没有接收单位 {agency} (no such agency)") from error
            if row is None:
                raise NotFoundError(f"没有接收单位 {agency} (no such agency)")
            yield cursor
            cursor.execute(_read("access_decision_add"), (agency, row["version"], action, by, reason))
            document = _document(row, self._live(cursor, agency))
            control_outbox.append(cursor.connection, "subscriptions", f"access/{agency}", document)

    @contextmanager
    def _changing(self) -> Iterator[Cursor[DictRow]]:
        with transaction(self._pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
            yield cursor

    @staticmethod
    def _live(cursor: Cursor[DictRow], agency: str) -> Sequence[KeyRow]:
        return [KeyRow(**row) for row in cursor.execute(_read("access_key_live"), (agency,))]


def _document(row: DictRow, keys: Sequence[KeyRow]) -> dict[str, Any]:
    shown = [
        {"id": k.id, "digest": k.digest, "expires_at": k.expires_at.isoformat() if k.expires_at else None} for k in keys
    ]
    return dict(row) | {"keys": shown}


def _read(name: str) -> bytes:
    return (_SQL / f"{name}.sql").read_bytes()
