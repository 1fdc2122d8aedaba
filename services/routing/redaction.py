"""Writes an event as a field policy leaves it: compiled once a schema and policy, whole events untouched.

The derived schema has the full one's name, a ``hongyan.policy``, and a subject of its own, whose name follows from the
full schema's and the policy's; so its versions follow the full schema's, and its readers keep working.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.schema import SchemaParseException

from schemas.codec import FRAME_BYTES, MAGIC, SchemaSource, UndecodableValue, schema_id_of
from schemas.contracts import Schema
from schemas.envelope import PREFIX
from schemas.registry_client import RegistryAway, RegistryError, SchemaRefused
from services.routing.fields import Derived, FieldPolicy, Mask, derive
from services.runtime.errors import HongyanError

log = structlog.get_logger()
PolicyOf = Callable[[str], FieldPolicy]
_DATASCHEMA = f"{PREFIX}dataschema"
_FIRST_OWN = 2**31
REFUSED_S = 30.0
_LAST_NUMBER = re.compile(rb"\d+$")


@dataclass(frozen=True, slots=True)
class _Compiled:
    schema_id: int
    frame: bytes
    reader: Any
    writer: Any
    mask: Mask | None


class Unregistered:
    """A registry's schemas, and derived ones that are kept here alone: a policy is tried before it is approved."""

    def __init__(self, schemas: SchemaSource) -> None:
        self._schemas = schemas
        self._own: list[Schema] = []

    def schema_by_id(self, schema_id: int) -> Schema:
        """Return the schema with this id; raises the registry's errors."""
        return self._own[schema_id - _FIRST_OWN] if schema_id >= _FIRST_OWN else self._schemas.schema_by_id(schema_id)

    def id_of(self, subject: str, schema: Schema) -> int:
        """Return an id of ours for a schema."""
        if schema not in self._own:
            self._own.append(schema)
        return _FIRST_OWN + self._own.index(schema)


class PolicyFailedError(HongyanError):
    """字段策略写不成这个事件 (an event can't be written under a field policy, now and by this configuration)"""


class Redactor:
    """Redacts values; ``policy_of`` gives a policy by its id.

    A policy whose schema the registry has refused is asked of again after a while only.
    """

    def __init__(
        self, schemas: SchemaSource, policy_of: PolicyOf, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._schemas = schemas
        self._policy_of = policy_of
        self._monotonic = monotonic
        self._compiled: dict[tuple[int, str], _Compiled | None] = {}
        self._refused: dict[tuple[int, str], tuple[float, str]] = {}

    def redact(self, value: bytes, policy: str) -> tuple[bytes, int | None]:
        """Return the value under a policy and its derived schema's id; whole, with None, where nothing is taken away.

        Raises UndecodableValue (whatever the policy), PolicyFailedError (this policy alone) or RegistryAway.
        """
        if not policy:
            return value, None
        schema_id = schema_id_of(value)
        key = (schema_id, policy)
        if key not in self._compiled:
            self._compiled[key] = self._attempt(key)
        compiled = self._compiled[key]
        return (value, None) if compiled is None else (_rewrite(value, compiled), compiled.schema_id)

    def _attempt(self, key: tuple[int, str]) -> _Compiled | None:
        refused_at, why = self._refused.get(key, (-REFUSED_S, ""))
        if self._monotonic() - refused_at < REFUSED_S:
            raise PolicyFailedError(why)
        try:
            return self._compile(*key)
        except RegistryAway:
            raise
        except (RegistryError, SchemaParseException) as error:
            why = f"字段策略 {key[1]} 的派生模式登记不成 (its schema is refused): {error}"
            self._refused[key] = self._monotonic(), why
            raise PolicyFailedError(why) from error

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
    target = io.BytesIO()
    target.write(compiled.frame)
    try:
        schemaless_writer(target, compiled.writer, data if compiled.mask is None else compiled.mask(data))
    except (ValueError, LookupError, OverflowError, TypeError, AttributeError) as error:
        # The writer's words say the value that it can't write.
        said = f"写不成派生模式 (its schema does not hold it): {type(error).__name__}"
        raise PolicyFailedError(said) from error
    return target.getvalue()


def _without_logical_types(kind: Any) -> Any:  # noqa: ANN401  (an Avro type)
    """Return a schema whose values are left as they are encoded: dates and decimals need not become Python's."""
    if isinstance(kind, list):
        return [_without_logical_types(one) for one in kind]
    if isinstance(kind, dict):
        return {name: _without_logical_types(value) for name, value in kind.items() if name != "logicalType"}
    return kind
