"""From records of the log to rows of the ledger: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
from psycopg.types.json import Jsonb

from schemas.contracts import Contracts, EventContract
from schemas.envelope import header_attributes
from schemas.receipts import OUTCOMES
from schemas.times import parse_time
from schemas.tracing import context_of
from services.runtime.kafka.port import Record

COLUMNS: Mapping[str, str] = {
    "event": 'logged_at, topic, partition, "offset", source, event_id, type, subject, division, occurred_at, '
    "recorded_at, follows, identifiers, guarded, trace_id",
    "route": 'logged_at, topic, partition, "offset", source, event_id, type, verdict, config, reason, entitled, '
    "routed_at",
    "entitlement": 'logged_at, topic, partition, "offset", agency, source, event_id, subject, type, why, whole, '
    "routed_at, subscriptions",
    "receipt": "logged_at, agency, cursor, source, event_id, type, subject, outcome, channel, attempts, first_at, "
    "last_at, status, reason, digest, statement, words",
    "statement": 'logged_at, agency, id, "timestamp", signature, verified_by, body',
}
IDENTIFYING = frozenset({"uscc", "certificate-no", "registration-no"})
GUARDED = frozenset({"personal", "sensitive"})
"""Sensitivities that not everybody may search by who may see that there is an event."""
PROGRESS = frozenset({"seam", "backfill"})
"""Verdicts that tell of no event, but how far a backfill is."""
_LATEST_MS = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp() * 1000)


class Row(NamedTuple):
    """A row of one of the ledger's tables, in the order of its columns; ``logged_at`` is in UTC.

    ``counted`` says what it adds one to in its hour: of which source, for which agency (none: empty), and what.
    """

    table: str
    logged_at: datetime
    values: tuple[object, ...]
    counted: tuple[str, str, str] | None = None


@dataclass(frozen=True, slots=True)
class Named:
    """What an event names: numbers that whoever may see the event searches by, and those that are guarded."""

    open: Sequence[str] = ()
    guarded: Sequence[str] = ()


NOTHING = Named()


class Identifiers:
    """Which fields of each type name a certificate or an organisation, by which people search."""

    def __init__(self, contracts: Contracts) -> None:
        self._fields = {name: _identifying(contract) for name, contract in contracts.types.items()}

    def of(self, kind: str, data: Mapping[str, Any]) -> Named:
        """Return the values, each once."""
        found: dict[bool, dict[str, None]] = {False: {}, True: {}}
        for name, guarded in self._fields.get(kind, ()):
            value = data.get(name)
            if isinstance(value, str) and value:
                found[guarded][_clean(value)] = None
        return Named(list(found[False]), list(found[True]))


def _identifying(contract: EventContract) -> Sequence[tuple[str, bool]]:
    """Return the identifying fields, each with whether it is guarded."""
    named = {field["name"] for field in contract.fields() if field.get("format") in IDENTIFYING}
    return [
        (field["name"], field["sensitivity"] in GUARDED)
        for field in contract.fields()
        if field["name"] in named or field.get("derived") in named
    ]


def event_row(record: Record, attributes: Mapping[str, str], identifiers: Named) -> Row:
    """Return the row of a record on an event topic; what it doesn't say, or says unreadably, is null."""
    at = logged_at(record)
    named = [_text(attributes.get(name)) for name in ("source", "id", "type", "subject", "division")]
    times = [_time(attributes.get("time")), _time(attributes.get("recordedtime"))]
    place = (record.topic, record.partition, record.offset)
    numbers = (list(identifiers.open), list(identifiers.guarded))
    trace = context_of(attributes)
    values = (at, *place, *named, *times, _text(attributes.get("follows")), *numbers, trace.trace_id if trace else None)
    return Row("event", at, values, (named[0] or "", "", "published"))


def route_rows(record: Record) -> list[Row]:
    """Return the rows of a record on ``ledger.routed``.

    Raises ValueError, KeyError, TypeError or AttributeError for what is none.
    """
    entry = orjson.loads(record.value or b"")
    if entry["verdict"] in PROGRESS:
        return []
    matched, follow_up = dict(entry["agencies"]), list(entry["follow_up"])
    source, event_id, kind = (_text(entry.get(name)) for name in ("source", "id", "type"))
    # The router takes in no event whose record key is not its business key.
    subject = _text((record.key or b"").decode(errors="replace"))
    # The event's own time on the log, so that what became of it stands in the same partition of the tables.
    at, routed_at = moment(int(entry.get("logged", record.timestamp))), _time(entry.get("at"))
    place = (entry["topic"], int(entry["partition"]), int(entry["offset"]))
    verdict = str(entry["verdict"])
    said = (verdict, entry.get("config"), _text(entry.get("reason")), len(matched) + len(follow_up))
    rows = [Row("route", at, (at, *place, source, event_id, kind, *said, routed_at), (source or "", "", verdict))]
    entitled = [(agency, "match", found) for agency, found in matched.items()]
    entitled += [(agency, "follow-up", []) for agency in follow_up]
    redacted = dict(entry.get("fields") or {})
    for agency, why, subscriptions in entitled:
        event = (source, event_id, subject, kind)
        values = (at, *place, agency, *event, why, agency not in redacted, routed_at, Jsonb(subscriptions))
        rows.append(Row("entitlement", at, values, (source or "", agency, "entitled")))
    return rows


def receipt_rows(record: Record) -> list[Row]:
    """Return the row of a record on ``receipts``; raises as :func:`route_rows` does for what is none."""
    document = orjson.loads(record.value or b"")
    at = logged_at(record)
    if document.get("kind") == "statement":
        named = ("agency", "id", "timestamp", "signature", "verified_by", "body")
        return [Row("statement", at, (at, *(_text(str(document[name])) for name in named)))]
    get, outcome, agency = document.get, document["outcome"], document["agency"]
    if outcome not in OUTCOMES:
        raise ValueError(f"unknown outcome {outcome}")
    source = _clean(document["source"])
    event = (source, _clean(document["event_id"]), _clean(document["type"]), _text(document["subject"]))
    what = (agency, int(document["cursor"]), *event, outcome, get("channel", "webhook"))
    when = (int(get("attempts", 0)), _time(get("first_at")), _time(document["last_at"]))
    said = (get("status"), _text(get("reason")), get("digest"), get("statement"), _text(get("words")))
    return [Row("receipt", at, (at, *what, *when, *said), (source, agency, outcome))]


def logged_at(record: Record) -> datetime:
    """Return when a record was put on the log; a time that can't be is the epoch."""
    return moment(record.timestamp)


def moment(stamp: int) -> datetime:
    """Return the time of a record's timestamp (ms); what can't be is the epoch."""
    return datetime.fromtimestamp((stamp if 0 <= stamp < _LATEST_MS else 0) / 1000, UTC)


def attributes_of(record: Record) -> dict[str, str]:
    """Return what a record on an event topic says of its event; nothing where that can't be read."""
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
