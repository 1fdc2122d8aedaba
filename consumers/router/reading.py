"""Reads an input record's envelope and framing, without decoding its body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from schemas.content import framed_digest
from schemas.envelope import identity_of
from schemas.reading import Unreadable, event_attributes
from services.runtime.kafka.port import Record


@dataclass(frozen=True, slots=True)
class Incoming:
    """An event as the router sees it: attributes, identity and content digest; the body stays encoded."""

    attributes: Mapping[str, str]
    identity: bytes
    digest: bytes


class SchemaNames(Protocol):
    """Tells which event type a schema id stands for."""

    def type_of(self, schema_id: int) -> str | None:
        """Return the event type, or None for an id that no registry knows; raises RegistryUnavailableError."""
        ...


def read(record: Record, schemas: SchemaNames) -> Incoming | Unreadable:
    """Return the event, or why the record is none; raises RegistryUnavailableError (read it again later)."""
    attributes = event_attributes(record.key, record.headers)
    if isinstance(attributes, Unreadable):
        return attributes
    return _framing_problem(record, attributes, schemas) or _incoming(record, attributes)


def _framing_problem(record: Record, attributes: Mapping[str, str], schemas: SchemaNames) -> Unreadable | None:
    value = record.value
    if value is None or len(value) < 6 or value[0] != 0:
        return Unreadable("the value is not in the Confluent wire format (0x00, schema id, Avro body)")
    schema_id = int.from_bytes(value[1:5], "big")
    kind = schemas.type_of(schema_id)
    if kind is None:
        return Unreadable(f"schema id {schema_id} is not in the registry")
    if kind != attributes["type"]:
        return Unreadable(f"schema id {schema_id} is of {kind}, but the event says {attributes['type']}")
    return None


def _incoming(record: Record, attributes: Mapping[str, str]) -> Incoming:
    return Incoming(attributes, identity_of(attributes), framed_digest(record.value or b"", attributes))
