"""One event of a feed as agencies pull it: a CloudEvent in JSON that carries its cursor."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, replace

import orjson

from schemas.codec import Decoded, UndecodableValue, to_jsonable
from schemas.envelope import header_attributes
from schemas.registry_client import RegistryAway, RegistryError
from services.runtime.errors import RegistryUnavailableError
from services.runtime.kafka.port import Record

CURSOR_ATTRIBUTE = "hongyancursor"
SUPERSEDED_ATTRIBUTE = "hongyansuperseded"
AVRO_TYPE = "application/avro"


@dataclass(frozen=True, slots=True)
class Entry:
    """An event at its cursor; ``body`` is its JSON, ``record`` what stands in the feed.

    Where another event has taken its place since, ``superseded_by`` names that one, and the data is left out.
    """

    cursor: int
    attributes: dict[str, str]
    body: bytes
    record: Record
    superseded_by: str | None = None

    @property
    def size(self) -> int:
        """Return about how many bytes it takes."""
        return len(self.body) + len(self.record.value or b"")

    def shown(self, data: str) -> bytes:
        """Return the event's JSON; ``data`` as JSON, or as it stands on Kafka (Confluent wire format) in base64."""
        if self.superseded_by is not None or data == "json":
            return self.body
        return orjson.dumps(_context(self.cursor, self.attributes) | _as_avro(self.record.value or b""))

    def superseded(self, by: str) -> Entry:
        """Return it as it is told once another event has taken its place: by name only."""
        body = orjson.dumps(_context(self.cursor, self.attributes) | {SUPERSEDED_ATTRIBUTE: by})
        return replace(self, body=body, superseded_by=by)


def entry_of(record: Record, decode: Callable[[bytes | None], Decoded]) -> Entry:
    """Return a feed's record as an entry; raises RegistryUnavailableError when its schema can't be had now.

    What can't be decoded is not left out: its data comes as it stands, in base64.
    """
    attributes = header_attributes((name, value) for name, value in record.headers if _is_text(value))
    try:
        found = to_jsonable(decode(record.value).data)
        data: dict[str, object] = {"datacontenttype": "application/json", "data": found}
    except RegistryAway as error:
        raise RegistryUnavailableError(str(error)) from error
    except (UndecodableValue, RegistryError):
        data = _as_avro(record.value or b"")
    body = orjson.dumps(_context(record.offset, attributes) | data)
    return Entry(record.offset, attributes, body, record)


def _context(cursor: int, attributes: dict[str, str]) -> dict[str, object]:
    return {"specversion": "1.0", **attributes, CURSOR_ATTRIBUTE: str(cursor)}


def _as_avro(value: bytes) -> dict[str, object]:
    return {"datacontenttype": AVRO_TYPE, "data_base64": base64.b64encode(value).decode()}


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
