"""An event type's schema over its versions in the registry: what changed from one to the next, and who reads what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.contracts import EventContract, Schema
from schemas.registry_client import RegistryAway, RegistryClient, SchemaUnknown
from services.portal.differences import Difference, schema_differences
from services.registry.avro import InvalidSchemaError, parse
from services.registry.compatibility import reading_problems
from services.runtime.errors import RegistryUnavailableError

MOST = 50
"""So many versions are shown, the newest."""


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """One version. ``changes`` are against the one before; ``backward`` tells whether it reads what that one wrote,
    ``forward`` whether that one reads what it writes (None: it is the first that is shown). ``in_force``: it is the
    one that this installation writes.
    """

    number: int
    id: int
    schema: Schema
    in_force: bool
    changes: Sequence[Difference] = ()
    backward: Sequence[str] | None = None
    forward: Sequence[str] | None = None


class SchemaHistory:
    """Asks the registry."""

    def __init__(self, registry: RegistryClient) -> None:
        self._registry = registry

    def of(self, contract: EventContract) -> list[SchemaVersion]:
        """Return the versions, the newest first; none of a type that nobody has published yet.

        Raises RegistryUnavailableError.
        """
        try:
            numbers = self._registry.versions(contract.subject)[-MOST:]
            held = [(number, *self._registry.version(contract.subject, number)) for number in numbers]
        except SchemaUnknown:
            return []
        except RegistryAway as error:
            raise RegistryUnavailableError(str(error)) from error
        found: list[SchemaVersion] = []
        for number, identity, schema in held:
            before = found[-1].schema if found else None
            found.append(_version(number, identity, schema, before, contract))
        return found[::-1]


def _version(
    number: int, identity: int, schema: Schema, before: Schema | None, contract: EventContract
) -> SchemaVersion:
    in_force = schema == contract.schema
    if before is None:
        return SchemaVersion(number, identity, schema, in_force)
    return SchemaVersion(
        number,
        identity,
        schema,
        in_force,
        schema_differences(before, schema),
        _reading(schema, before),
        _reading(before, schema),
    )


def _reading(reader: Schema, writer: Schema) -> list[str]:
    """Return why data written by one schema can't be read by another."""
    try:
        return [str(one) for one in reading_problems(parse(json.dumps(reader)), parse(json.dumps(writer)))]
    except InvalidSchemaError as error:
        return [str(error)]
