"""Writes an event as a field policy leaves it: compiled once a schema and policy, whole events untouched.

The derived schema has the full one's name, a ``hongyan.policy``, and a subject of its own, whose name follows from the
full schema's and the policy's; so its versions follow the full schema's, and its readers keep working.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from fastavro import parse_schema, schemaless_reader, schemaless_writer

from schemas.codec import FRAME_BYTES, MAGIC, SchemaSource, UndecodableValue, schema_id_of
from schemas.contracts import Schema
from schemas.envelope import PREFIX
from schemas.registry_client import SchemaRefused
from services.routing.fields import Derived, FieldPolicy, Mask, derive

log = structlog.get_logger()
PolicyOf = Callable[[str], FieldPolicy]
_DATASCHEMA = f"{PREFIX}dataschema"
_LAST_NUMBER = re.compile(rb"\d+$")


@dataclass(frozen=True, slots=True)
class _Compiled:
    schema_id: int
    frame: bytes
    reader: Any
    writer: Any
    mask: Mask | None


class Redactor:
    """Redacts values; ``policy_of`` gives a policy by its id."""

    def __init__(self, schemas: SchemaSource, policy_of: PolicyOf) -> None:
        self._schemas = schemas
        self._policy_of = policy_of
        self._compiled: dict[tuple[int, str], _Compiled | None] = {}

    def redact(self, value: bytes, policy: str) -> tuple[bytes, int | None]:
        """Return the value under a policy and its derived schema's id; whole, with None, where nothing is taken away.

        Raises UndecodableValue, or the registry's errors.
        """
        if not policy:
            return value, None
        schema_id = schema_id_of(value)
        key = (schema_id, policy)
        if key not in self._compiled:
            self._compiled[key] = self._compile(schema_id, policy)
        compiled = self._compiled[key]
        return (value, None) if compiled is None else (_rewrite(value, compiled), compiled.schema_id)

    def register(self, schema: Schema, policy: FieldPolicy) -> None:
        """Make the derived schema of a full one known to the registry, before an event needs it."""
        derived = derive(schema, policy)
        if derived is not None:
            self._registered(schema, policy, derived)

    def _compile(self, schema_id: int, policy_id: str) -> _Compiled | None:
        schema = self._schemas.schema_by_id(schema_id)
        policy = self._policy_of(policy_id)
        derived = derive(schema, policy)
        if derived is None:
            return None
        derived, derived_id = self._registered(schema, policy, derived)
        log.info("redaction_compiled", schema_id=schema_id, policy=policy.id, derived_id=derived_id)
        frame = MAGIC + derived_id.to_bytes(4, "big")
        reader, writer = (parse_schema(_without_logical_types(one)) for one in (schema, derived.schema))
        return _Compiled(derived_id, frame, reader, writer, derived.mask)

    def _registered(self, schema: Schema, policy: FieldPolicy, derived: Derived) -> tuple[Derived, int]:
        subject = derived_subject(schema, policy.id)
        try:
            return derived, self._schemas.id_of(subject, derived.schema)
        except SchemaRefused:
            careful = derive(schema, policy, cautious=True) or derived
            return careful, self._schemas.id_of(subject, careful.schema)


def derived_subject(schema: Schema, policy: str) -> str:
    """Return the registry subject of what a policy makes of a schema."""
    return f"{schema['namespace']}.{schema['name']}.fields-{policy}"


def with_dataschema(headers: Sequence[tuple[str, bytes]], schema_id: int) -> list[tuple[str, bytes]]:
    """Return headers whose ``dataschema`` names the schema that the value is written in."""
    return [
        (name, _LAST_NUMBER.sub(str(schema_id).encode(), value) if name == _DATASCHEMA else value)
        for name, value in headers
    ]


def _rewrite(value: bytes, compiled: _Compiled) -> bytes:
    source = io.BytesIO(value)
    source.seek(FRAME_BYTES)
    try:
        data = schemaless_reader(
            source, compiled.reader, None, return_record_name=True, return_record_name_override=True
        )
    except (EOFError, ValueError, IndexError, KeyError, OverflowError, TypeError, MemoryError) as error:
        raise UndecodableValue(f"{type(error).__name__} {error}") from error
    if source.read(1):
        raise UndecodableValue("bytes are left over after the record")
    if compiled.mask is not None:
        data = compiled.mask(data)
    target = io.BytesIO()
    target.write(compiled.frame)
    schemaless_writer(target, compiled.writer, data)
    return target.getvalue()


def _without_logical_types(kind: Any) -> Any:  # noqa: ANN401  (an Avro type)
    """Return a schema whose values are left as they are encoded: dates and decimals need not become Python's."""
    if isinstance(kind, list):
        return [_without_logical_types(one) for one in kind]
    if isinstance(kind, dict):
        return {name: _without_logical_types(value) for name, value in kind.items() if name != "logicalType"}
    return kind
