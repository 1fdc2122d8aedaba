"""Which event type a schema id stands for, asked of the registry once an id."""

from __future__ import annotations

from schemas.registry_client import RegistryAway, RegistryClient, SchemaUnknown
from services.runtime.errors import RegistryUnavailableError


class RegistrySchemaNames:
    """Reads the ``hongyan.type`` of schemas from a registry."""

    def __init__(self, registry: RegistryClient) -> None:
        self._registry = registry
        self._names: dict[int, str | None] = {}

    def type_of(self, schema_id: int) -> str | None:
        """Return the event type, or None for an id that the registry doesn't know or whose schema names no type."""
        if schema_id not in self._names:
            try:
                self._names[schema_id] = self._registry.schema_by_id(schema_id).get("hongyan.type")
            except SchemaUnknown:
                return None  # it may be registered later: asked again then
            except RegistryAway as error:
                raise RegistryUnavailableError(str(error)) from error
        return self._names[schema_id]
