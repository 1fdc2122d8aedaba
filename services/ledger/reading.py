"""What became of an event: who was entitled, who has it since when, who said what; and searches for events."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool

from services.runtime.database import transaction
from services.runtime.errors import HongyanError

_SQL = Path(__file__).parent / "sql"
SEARCH_MS = 5000
HAS_IT = frozenset({"delivered", "accepted", "rejected"})


class SearchTooWideError(HongyanError):
    """查询范围过大，5 秒内未完成；请加上时间范围或编号 (too wide a search; narrow it by time or a number)"""


@dataclass(frozen=True, slots=True)
class Criteria:
    """What to search by; None leaves a criterion out. ``identifier`` is a certificate number or organisation code."""

    event: str | None = None
    subject: str | None = None
    identifier: str | None = None
    source: str | None = None
    type: str | None = None
    agency: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class LedgerReader:
    """Reads the ledger over the process's pool."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def trace(self, event: str, source: str | None = None, agency: str | None = None) -> list[dict[str, Any]]:
        """Return the events of this id (one for each source and business key), each with what became of it.

        With ``agency``, only its own part is in them, and events that it was never entitled to are left out.
        """
        with self._reading() as cursor:
            found = cursor.execute(_read("trace_events"), {"event": event, "source": source}).fetchall()
            events: dict[tuple[str, str], list[DictRow]] = {}
            for row in found:
                events.setdefault((row["source"], row["subject"]), []).append(row)
            traced = [self._traced(cursor, event, rows, agency) for rows in events.values()]
        return [one for one in traced if agency is None or one["agencies"]]

    def search(self, criteria: Criteria, limit: int) -> list[dict[str, Any]]:
        """Return the newest events that meet all criteria; raises SearchTooWideError."""
        values = asdict(criteria) | {"from": criteria.since, "to": criteria.until, "limit": limit}
        query = _read("search_agency" if criteria.agency else "search")
        with self._reading() as cursor:
            return [_plain(row) for row in cursor.execute(query, values, prepare=False)]

    def follow_ups(self, types: Collection[str], *, open_only: bool) -> list[DictRow]:
        """Return each routed event of these types, or that follows another, with each agency that must have it.

        ``state`` is the newest word of the agency, else our newest receipt: ``accepted``, ``rejected``, ``delivered``,
        ``parked``, or ``underway``. Open is what was not accepted. One that nobody must have is ``nobody``'s.
        """
        with self._reading() as cursor:
            return cursor.execute(_read("follow_ups"), {"types": list(types), "open": open_only}).fetchall()

    def _traced(
        self, cursor: psycopg.Cursor[DictRow], event: str, rows: Sequence[DictRow], agency: str | None
    ) -> dict[str, Any]:
        # A repetition has a row of its own; the one that was routed tells the story.
        first = next((row for row in rows if row["verdict"] == "routed"), rows[0])
        values = {"event": event, "source": first["source"], "subject": first["subject"], "agency": agency}
        entitled = cursor.execute(_read("trace_entitlements"), values).fetchall()
        receipts = cursor.execute(_read("trace_receipts"), values).fetchall()
        agencies = [_agency(row, [r for r in receipts if r["agency"] == row["agency"]]) for row in entitled]
        told = {name: first[name] for name in first if name not in {"event_id"}}
        repeats = sum(row["verdict"] == "duplicate" for row in rows)
        story: dict[str, Any] = _plain({"id": event} | told | {"repeats": repeats, "agencies": agencies})
        return story | {"completeness": completeness(agencies)}

    @contextmanager
    def _reading(self) -> Iterator[psycopg.Cursor[DictRow]]:
        try:
            with transaction(self._pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
                cursor.execute(_read("limit_time"), (f"{SEARCH_MS}ms",))
                yield cursor
        except psycopg.errors.QueryCanceled as error:
            raise SearchTooWideError from error


def completeness(agencies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how many of the entitled have the event, and what they said: ``complete`` when all have it."""
    states = [agency["state"] for agency in agencies]
    has_it = sum(state in HAS_IT for state in states)
    counted = {name: states.count(name) for name in ("accepted", "rejected", "parked", "pending")}
    return {"entitled": len(states), "delivered": has_it, **counted, "complete": has_it == len(states)}


def _agency(row: Mapping[str, Any], receipts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Put one agency's part together: the newest receipt of the agency's own stands before ours."""
    ordered = sorted(receipts, key=lambda receipt: receipt["at"])
    has_it = [receipt for receipt in ordered if receipt["outcome"] in HAS_IT]
    said = [receipt for receipt in ordered if receipt["outcome"] in {"accepted", "rejected"}]
    newest = next((found[-1] for found in (said, has_it, ordered) if found), None)
    return {
        "agency": row["agency"],
        "why": row["why"],
        "subscriptions": row["subscriptions"],
        "state": newest["outcome"] if newest else "pending",
        "delivered_at": has_it[0]["at"] if has_it else None,
        "attempts": sum(receipt["attempts"] for receipt in ordered),
        "receipts": [{name: value for name, value in r.items() if name != "agency"} for r in ordered],
    }


def _plain(value: Any) -> Any:  # noqa: ANN401  (JSON of any shape)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {name: _plain(held) for name, held in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value


@cache
def _read(name: str) -> bytes:
    return (_SQL / f"{name}.sql").read_bytes()
