"""Adds an event to the outbox, in the caller's own transaction. Copy this file into an approval system as it is.

It needs nothing but a DB-API cursor; the caller commits, with the case and the event together::

    with connection.cursor() as cursor:
        cursor.execute("UPDATE ad_case SET state = 'issued' WHERE number = %s", (number,))
        add_event(cursor, "cn.gov.sc.window.case.completed", number, {...})
    connection.commit()
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Protocol

COLUMNS = ("id", "aggregatetype", "aggregateid", "type", "payload", "time", "follows", "division")


class Cursor(Protocol):
    """A DB-API cursor."""

    def execute(self, statement: str, parameters: Sequence[Any], /) -> object:
        """Run one statement."""
        ...


def add_event(
    cursor: Cursor,
    event_type: str,
    key: str,
    data: Mapping[str, Any],
    *,
    event_id: str | None = None,
    time: datetime | str | None = None,
    follows: str | None = None,
    division: str | None = None,
    traceparent: str | None = None,
    table: str = "hongyan_outbox",
    placeholder: str = "%s",
) -> str:
    """Add one event and return its id.

    ``key`` is the business key that the type's catalogue entry names. ``event_id`` is a new UUID unless given;
    ``follows`` is the id of the event that this one corrects or revokes; ``traceparent`` is the span that the case was
    decided in (W3C Trace Context). ``placeholder`` is the driver's (``%s`` of psycopg and PyMySQL, ``?`` of sqlite3).
    Dates and times in ``data`` are written in ISO 8601.
    """
    identity = event_id or str(uuid.uuid4())
    domain = event_type.split(".")[3]
    happened = time.isoformat() if isinstance(time, datetime) else time
    payload = json.dumps(data, ensure_ascii=False, default=_plain)
    values = [identity, domain, key, event_type, payload, happened, follows, division]
    columns = [*COLUMNS]
    if traceparent is not None:  # a table made by an earlier version lacks the column
        columns.append("traceparent")
        values.append(traceparent)
    marks = ", ".join([placeholder] * len(columns))
    cursor.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", values)
    return identity


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, date | datetime) else str(value)
