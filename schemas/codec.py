"""Avro in the Confluent wire format: 0x00, the schema's id in four bytes big-endian, the body."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Protocol

import orjson
from fastavro import parse_schema, schemaless_reader, schemaless_writer

from schemas.content import ContentDigester
from schemas.contracts import Schema

MAGIC = b"\x00"
FRAME_BYTES = 5


class UndecodableValue(Exception):  # noqa: N818  (the value is, not the exception)
    """The value is not Avro in a known schema."""

    retriable = False


class SchemaSource(Protocol):
    """Where schemas and their ids come from (a registry's client)."""

    def schema_by_id(self, schema_id: int) -> Schema:
        """Return the schema with this id; raises an error with ``retriable`` when it can't be had now."""
        ...

    def id_of(self, subject: str, schema: Schema) -> int:
        """Return the id of a schema under a subject, registering it if need be."""
        ...


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded value: which schema it was written in, and the data with dates and times as Python's."""

    schema_id: int
    record_name: str
    data: dict[str, Any]
    digester: ContentDigester

    def content_digest(self) -> bytes:
        """Return the content digest (see :mod:`schemas.content`): the same whichever version it was written in."""
        return self.digester(self.data)


def schema_id_of(value: bytes | None) -> int:
    """Return the schema id in a value's frame; raises UndecodableValue."""
    if value is None or len(value) <= FRAME_BYTES or value[:1] != MAGIC:
        raise UndecodableValue("the value is not in the Confluent wire format (0x00, schema id, Avro body)")
    return int.from_bytes(value[1:FRAME_BYTES], "big")


class Codec:
    """Encodes and decodes; schemas are asked for once, since an id stands for one schema for ever."""

    def __init__(self, schemas: SchemaSource) -> None:
        self._schemas = schemas
        self._writers: dict[str, tuple[bytes, Any]] = {}
        self._readers: dict[int, tuple[str, Any, ContentDigester]] = {}

    def schema_id(self, subject: str, schema: Schema) -> int:
        """Return the id under which this schema is written."""
        return int.from_bytes(self._writer(subject, schema)[0][1:], "big")

    def has_seen(self, schema_id: int) -> bool:
        """Tell whether values of this schema are decoded without asking for it."""
        return schema_id in self._readers

    def learn(self, schema_id: int) -> None:
        """Fetch a schema, so that its values are decoded without asking; raises the source's error."""
        if schema_id not in self._readers:
            self._reader(schema_id)

    def encode(self, subject: str, schema: Schema, data: Mapping[str, Any]) -> bytes:
        """Return the framed value; the data must be valid (see :mod:`schemas.validation`)."""
        frame, parsed = self._writer(subject, schema)
        body = io.BytesIO()
        body.write(frame)
        schemaless_writer(body, parsed, data)
        return body.getvalue()

    def decode(self, value: bytes | None) -> Decoded:
        """Return the data in the schema that it was written in; raises UndecodableValue, or the source's error."""
        schema_id = schema_id_of(value)
        name, parsed, digester = self._readers.get(schema_id) or self._reader(schema_id)
        body = io.BytesIO(value or b"")
        body.seek(FRAME_BYTES)
        try:
            data = schemaless_reader(body, parsed, None)
        except (EOFError, ValueError, IndexError, KeyError, OverflowError, TypeError, MemoryError) as error:
            raise UndecodableValue(f"schema id {schema_id}: {type(error).__name__} {error}") from error
        if body.read(1):
            raise UndecodableValue(f"schema id {schema_id}: bytes are left over after the record")
        if not isinstance(data, dict):
            raise UndecodableValue(f"schema id {schema_id} is not a record's")
        return Decoded(schema_id, name, data, digester)

    def _writer(self, subject: str, schema: Schema) -> tuple[bytes, Any]:
        held = self._writers.get(subject)
        if held is None:
            schema_id = self._schemas.id_of(subject, schema)
            held = self._writers[subject] = (MAGIC + schema_id.to_bytes(4, "big"), parse_schema(schema))
        return held

    def _reader(self, schema_id: int) -> tuple[str, Any, ContentDigester]:
        schema = self._schemas.schema_by_id(schema_id)
        name = f"{schema.get('namespace', '')}.{schema.get('name', '')}".strip(".")
        self._readers[schema_id] = (name, parse_schema(schema), ContentDigester(schema))
        return self._readers[schema_id]


def to_jsonable(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return decoded data as JSON values: dates and times in ISO 8601, decimals as text."""
    return {name: _jsonable(value) for name, value in data.items()}


def to_json(event: Mapping[str, Any]) -> bytes:
    """Return JSON text that holds decoded data: the same values as :func:`to_jsonable`, many times faster."""
    return orjson.dumps(event, default=_decimal)


def _decimal(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no value of decoded data")


def _jsonable(value: object) -> object:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, list):
        return [_jsonable(item) for item in value]
    if isinstance(value, dict):
        return to_jsonable(value)
    return value
