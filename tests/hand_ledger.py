"""Puts events and receipts into the ledger's database by hand, as the ledger would."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from schemas.times import SHANGHAI
from services.ledger.repository import LedgerStore
from services.ledger.rows import Row
from tests.events import REVOKED

ACT = datetime(2025, 12, 29, 23, 30, tzinfo=SHANGHAI)


class HandLedger:
    """What happened at ``at``."""

    def __init__(self, dsn: str, at: datetime = ACT) -> None:
        self.at = at
        self._store = LedgerStore(dsn, "ledger")
        self._store.begin(("t", 0), 0)
        self._next = 0

    def close(self) -> None:
        """Close the connection."""
        self._store.close()

    def put(self, rows: list[Row]) -> None:
        """Add rows, as the ledger would."""
        self._next += 1
        self._store.store([rows], {("t", 0): (self._next - 1, self._next)})

    def event(self, name: str, *agencies: str, kind: str = REVOKED, **more: Any) -> None:
        """Let an event be published and routed; ``at`` is when it happened by its own word."""
        at = more.get("at", self.at)
        logged = self.at.astimezone(UTC)
        named: tuple[object, ...] = ("urn:h", name, kind, "k", None, at, None, more.get("follows"), [], [], None)
        verdict, place = more.get("verdict", "routed"), (logged, "t", 0, self._next)
        rows = [
            Row("event", logged, (*place, *named)),
            Row("route", logged, (*place, "urn:h", name, kind, verdict, 1, None, len(agencies), None)),
        ]
        for agency in agencies:
            event = ("urn:h", name, "k", kind)
            rows.append(Row("entitlement", logged, (*place, agency, *event, "follow-up", True, None, Jsonb([]))))
        self.put(rows)

    def receipt(self, agency: str, name: str, outcome: str, minutes: int, cursor: int = 0) -> None:
        """Let a receipt be put on the log, so many minutes after the act."""
        at = self.at.astimezone(UTC) + timedelta(minutes=minutes)
        said = (None, None, None, None, None)
        what = (at, agency, cursor, "urn:h", name, REVOKED, "k", outcome, "webhook", 1, at, at, *said)
        self.put([Row("receipt", at, what)])
