"""Reads an input record's envelope and framing, without decoding its body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Protocol

from schemas.envelope import PREFIX
from services.runtime.kafka.port import Record

DIGEST_BYTES = 16
_REQUIRED = ("id", "source", "type", "subject", "time")
_TIMES = ("time", "recordedtime")
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Incoming:
    """An event as the router sees it: attributes, identity and content digest; the body stays encoded."""

    attributes: Mapping[str, str]
    identity: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why a record can never be routed."""

    reason: str


class SchemaNames(Protocol):
    """Tells which event type a schema id stands for."""

    def type_of(self, schema_id: int) -> str | None:
        """Return the event type, or None for an id that no registry knows; raises RegistryUnavailableError."""
        ...


def read(record: Record, schemas: SchemaNames) -> Incoming | Unreadable:
    """Return the event, or why the record is none; raises RegistryUnavailableError (read it again later)."""
    try:
        attributes = {key[3:]: value.decode() for key, value in record.headers if key.startswith(PREFIX)}
    except UnicodeDecodeError as error:
        return Unreadable(f"a CloudEvents header is not UTF-8: {error}")
    for name in _REQUIRED:
        if not attributes.get(name):
            return Unreadable(f"CloudEvents attribute missing: {name}")
    for name in _TIMES:
        if name in attributes and not _is_time(attributes[name]):
            return Unreadable(f"CloudEvents attribute {name} is not RFC 3339 with an offset: {attributes[name]!r}")
    return _framing_problem(record, attributes, schemas) or _incoming(record, attributes)


def _is_time(text: str) -> bool:
    """Tell whether text is a date and time of RFC 3339: whoever reads it later need not guess its offset."""
    if not _RFC_3339.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return False
    return True


def _framing_problem(record: Record, attributes: Mapping[str, str], schemas: SchemaNames) -> Unreadable | None:
    value = record.value
    if value is None or len(value) < 6 or value[0] != 0:
        return Unreadable("the value is not in the Confluent wire format (0x00, schema id, Avro body)")
    if record.key is None or record.key != attributes["subject"].encode():
        return Unreadable("the record key is not the business key (subject), so its order is not kept")
    schema_id = int.from_bytes(value[1:5], "big")
    kind = schemas.type_of(schema_id)
    if kind is None:
        return Unreadable(f"schema id {schema_id} is not in the registry")
    if kind != attributes["type"]:
        return Unreadable(f"schema id {schema_id} is of {kind}, but the event says {attributes['type']}")
    return None


def _incoming(record: Record, attributes: Mapping[str, str]) -> Incoming:
    value = record.value or b""
    content = blake2b(value, digest_size=DIGEST_BYTES)
    content.update(f"\0{attributes['type']}\0{attributes['subject']}".encode())
    # With the business key: the same id under another key may lie in another partition, where nobody remembers it.
    named = "\0".join((attributes["source"], attributes["id"], attributes["subject"]))
    identity = blake2b(named.encode(), digest_size=DIGEST_BYTES)
    return Incoming(attributes, identity.digest(), content.digest())
