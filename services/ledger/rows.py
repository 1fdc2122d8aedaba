"""From records of the log to rows of the ledger: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from psycopg.types.json import Jsonb

from schemas.contracts import Contracts, EventContract
from schemas.envelope import header_attributes
from schemas.receipts import Receipt
from schemas.times import parse_time
from services.runtime.kafka.port import Record

COLUMNS: Mapping[str, str] = {
    "event": 'logged_at, topic, partition, "offset", source, event_id, type, subject, division, occurred_at, '
    "recorded_at, follows, identifiers",
    "route": 'logged_at, topic, partition, "offset", source, event_id, verdict, config, reason, entitled',
    "entitlement": "logged_at, agency, source, event_id, subject, why, subscriptions",
    "receipt": "logged_at, agency, cursor, source, event_id, subject, outcome, channel, attempts, first_at, "
    "last_at, status, reason, digest, statement",
    "statement": 'logged_at, agency, id, "timestamp", signature, verified_by, body',
}
IDENTIFYING = frozenset({"uscc", "certificate-no", "registration-no"})
PROGRESS = frozenset({"seam", "backfill"})
"""Verdicts that tell of no event, but how far a backfill is."""
_LATEST_MS = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of one of the ledger's tables, in the order of its columns."""

    table: str
    logged_at: datetime
    values: tuple[object, ...]


class Identifiers:
    """Which fields of each type name a certificate or an organisation, by which people search."""

    def __init__(self, contracts: Contracts) -> None:
        self._fields = {name: _identifying(contract) for name, contract in contracts.types.items()}

    def of(self, kind: str, data: Mapping[str, Any]) -> list[str]:
        """Return the values, each once."""
        values = (data.get(name) for name in self._fields.get(kind, ()))
        return list(dict.fromkeys(_clean(value) for value in values if isinstance(value, str) and value))


def _identifying(contract: EventContract) -> Sequence[str]:
    named = [field["name"] for field in contract.fields() if field.get("format") in IDENTIFYING]
    derived = [field["name"] for field in contract.fields() if field.get("derived") in named]
    return [*named, *derived]


def event_row(record: Record, identifiers: Sequence[str]) -> Row:
    """Return the row of a record on an event topic; what it doesn't say, or says unreadably, is null."""
    attributes = _attributes(record)
    at = logged_at(record)
    named = [_text(attributes.get(name)) for name in ("source", "id", "type", "subject", "division")]
    times = [_time(attributes.get("time")), _time(attributes.get("recordedtime"))]
    place = (record.topic, record.partition, record.offset)
    return Row("event", at, (at, *place, *named, *times, _text(attributes.get("follows")), list(identifiers)))


def route_rows(record: Record) -> list[Row]:
    """Return the rows of a record on ``ledger.routed``; raises ValueError, KeyError or TypeError for what is none."""
    entry = orjson.loads(record.value or b"")
    if entry["verdict"] in PROGRESS:
        return []
    matched, follow_up = dict(entry["agencies"]), list(entry["follow_up"])
    source, event_id = _text(entry["source"]), _text(entry["id"])
    # The router takes in no event whose record key is not its business key.
    subject = _text((record.key or b"").decode(errors="replace"))
    at = logged_at(record)
    place = (entry["topic"], int(entry["partition"]), int(entry["offset"]))
    verdict = (str(entry["verdict"]), entry.get("config"), _text(entry.get("reason")))
    rows = [Row("route", at, (at, *place, source, event_id, *verdict, len(matched) + len(follow_up)))]
    entitled = [(agency, "match", found) for agency, found in matched.items()]
    entitled += [(agency, "follow-up", []) for agency in follow_up]
    for agency, why, subscriptions in entitled:
        rows.append(Row("entitlement", at, (at, agency, source, event_id, subject, why, Jsonb(subscriptions))))
    return rows


def receipt_rows(record: Record) -> list[Row]:
    """Return the row of a record on ``receipts``; raises ValueError, KeyError or TypeError for what is none."""
    document = orjson.loads(record.value or b"")
    at = logged_at(record)
    if document.get("kind") == "statement":
        named = ("agency", "id", "timestamp", "signature", "verified_by", "body")
        return [Row("statement", at, (at, *(_text(str(document[name])) for name in named)))]
    found = Receipt.from_json(document)
    event = (_text(found.source), _text(found.event_id), _text(found.subject))
    what = (found.agency, int(found.cursor), *event, found.outcome, found.channel)
    when = (int(found.attempts), _time(found.first_at), _time(found.last_at))
    return [Row("receipt", at, (at, *what, *when, found.status, _text(found.reason), found.digest, found.statement))]


def logged_at(record: Record) -> datetime:
    """Return when a record was put on the log; a time that can't be is the epoch."""
    stamp = record.timestamp if 0 <= record.timestamp < _LATEST_MS else 0
    return datetime.fromtimestamp(stamp / 1000, UTC)


def _attributes(record: Record) -> dict[str, str]:
    try:
        return header_attributes(record.headers)
    except UnicodeDecodeError:
        return {}


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_time(text)[0].astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _text(text: str | None) -> str | None:
    return None if text is None else _clean(text)


def _clean(text: str) -> str:
    """PostgreSQL holds any text without NUL."""
    return text.replace("\0", "\ufffd")
