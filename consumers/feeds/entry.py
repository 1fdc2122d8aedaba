"""One event of a feed as agencies pull it: a CloudEvent in JSON that carries its cursor."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from schemas.codec import Decoded, UndecodableValue, to_jsonable
from schemas.envelope import header_attributes
from schemas.registry_client import RegistryAway, RegistryError
from services.runtime.errors import RegistryUnavailableError
from services.runtime.kafka.port import Record

CURSOR_ATTRIBUTE = "hongyancursor"
AVRO_TYPE = "application/avro"


@dataclass(frozen=True, slots=True)
class Entry:
    """An event at its cursor; ``body`` is its JSON, ``value`` the Avro in the Confluent wire format."""

    cursor: int
    attributes: dict[str, str]
    body: bytes
    value: bytes

    @property
    def size(self) -> int:
        """Return about how many bytes it takes."""
        return len(self.body) + len(self.value)

    def with_avro(self) -> bytes:
        """Return the event with its data as it stands on Kafka, in base64."""
        return orjson.dumps(_context(self.cursor, self.attributes) | _as_avro(self.value))


def entry_of(record: Record, decode: Callable[[bytes | None], Decoded]) -> Entry:
    """Return a feed's record as an entry; raises RegistryUnavailableError when its schema can't be had now.

    What can't be decoded is not left out: its data comes as it stands, in base64.
    """
    attributes = header_attributes((name, value) for name, value in record.headers if _is_text(value))
    value = record.value or b""
    try:
        found = to_jsonable(decode(record.value).data)
        data: dict[str, object] = {"datacontenttype": "application/json", "data": found}
    except RegistryAway as error:
        raise RegistryUnavailableError(str(error)) from error
    except (UndecodableValue, RegistryError):
        data = _as_avro(value)
    body = orjson.dumps(_context(record.offset, attributes) | data)
    return Entry(record.offset, attributes, body, value)


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
