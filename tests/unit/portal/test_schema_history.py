"""A type's schema over its versions: what changed, and who reads what; the registry away is said."""

from __future__ import annotations

import copy

import pytest

from schemas.contracts import Schema, load_contracts
from schemas.registry_client import RegistryAway, RegistryClient, SchemaUnknown
from services.portal.schema_history import SchemaHistory
from services.runtime.errors import RegistryUnavailableError
from tests.events import ISSUED

CONTRACT = load_contracts().types[ISSUED]


class Held(RegistryClient):
    """A registry that holds these versions of every subject, or fails so."""

    def __init__(self, *schemas: Schema, error: Exception | None = None) -> None:
        super().__init__("http://127.0.0.1:9")
        self.held = schemas
        self.error = error

    def versions(self, subject: str) -> list[int]:
        """Return their numbers."""
        if self.error is not None:
            raise self.error
        return list(range(1, len(self.held) + 1))

    def version(self, subject: str, number: int) -> tuple[int, Schema]:
        """Return one."""
        return 100 + number, self.held[number - 1]


def test_each_version_tells_what_it_changed_and_who_reads_what() -> None:
    """A field without a default can't be read from what was written before; one that went is no trouble."""
    older = copy.deepcopy(CONTRACT.schema)
    older["fields"] = [field for field in older["fields"] if field["name"] != "institution_name"]
    newest, first = SchemaHistory(Held(older, CONTRACT.schema)).of(CONTRACT)
    assert (newest.number, newest.id, newest.in_force, first.in_force) == (2, 102, True, False)
    assert [(one.place, one.kind) for one in newest.changes] == [("institution_name", "added")]
    assert newest.backward is not None
    assert "institution_name" in str(newest.backward)
    assert newest.forward == []
    assert (first.backward, first.changes) == (None, ())


def test_a_type_that_nobody_has_published_has_no_versions_and_a_registry_that_is_away_is_said() -> None:
    """The one is no error."""
    assert SchemaHistory(Held(error=SchemaUnknown("40401"))).of(CONTRACT) == []
    with pytest.raises(RegistryUnavailableError):
        SchemaHistory(Held(error=RegistryAway("closed"))).of(CONTRACT)
