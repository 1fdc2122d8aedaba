"""What one event changes in a table, or why it can't."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from consumers.runner.rows import Never
from consumers.table_sink.columns import KEY_CHARS, SOURCE_CHARS, names_of
from schemas.codec import Decoded, SchemaSource, UndecodableValue
from schemas.contracts import Schema
from schemas.envelope import header_attributes
from schemas.registry_client import RegistryAway, RegistryError
from schemas.times import parse_time
from services.runtime.errors import RegistryUnavailableError
from services.runtime.kafka.port import Record

CORRECTED = "corrected"
PUT_BACK = frozenset({b"replay", b"backfill"})
"""Why an event stands in a feed later than its place in what became of its subject."""


@dataclass(frozen=True, slots=True)
class Change:
    """A row to put: its table, identity and state, the event that brings it, and its data."""

    table: str
    source: str
    key: str
    state: str
    event_id: str
    cursor: int
    time: datetime
    schema: Schema
    data: Mapping[str, Any]
    in_order: bool = False
    """Whether it counts although its time is before the row's: a follow-up that stands in the feed behind what it is
    about, with a date alone where that had an hour. What is put back stands anywhere in the feed, and does not."""
    whole: bool = True
    """Whether it tells all there is of its subject: an empty field is empty then. A follow-up tells what it is about, a
    correction (更正) all of it anew."""


class Stopped(Never):
    """Why an event must not go out any more: a person's decision. The agency's database is told the reason alone."""


def change_of(
    record: Record,
    decode: Callable[[bytes | None], Decoded],
    schemas: SchemaSource,
    follow_up_types: Collection[str],
) -> Change | Never:
    """Return what a feed's record changes; raises RegistryUnavailableError when its schema can't be had now."""
    try:
        attributes = header_attributes(record.headers)
        decoded = decode(record.value)
        schema = schemas.schema_by_id(decoded.schema_id)
        table, state = names_of(attributes["type"])
        source, key = attributes["source"], attributes["subject"]
        if len(source) > SOURCE_CHARS or len(key) > KEY_CHARS:
            return Never(f"source 或业务主键过长 (longer than {SOURCE_CHARS} and {KEY_CHARS} characters)")
        time = parse_time(attributes["time"])[0]
    except RegistryAway as error:
        raise RegistryUnavailableError(str(error)) from error
    except (UndecodableValue, RegistryError, KeyError, ValueError) as error:
        return Never(f"不能写入表 (no row can be made of it): {type(error).__name__} {error}")
    in_order = attributes["type"] in follow_up_types and dict(record.headers).get("hongyan-reason") not in PUT_BACK
    whole = attributes["type"] not in follow_up_types or state == CORRECTED
    return Change(
        table, source, key, state, attributes["id"], record.offset, time, schema, decoded.data, in_order, whole
    )
