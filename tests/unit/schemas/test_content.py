"""When two values say the same: over versions of a schema, and not over differences in what was said."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from schemas.codec import Codec
from schemas.contracts import load_contracts
from schemas.envelope import identity, message_id
from tests.events import ISSUED
from tests.fakes.schemas import MemorySchemas

CONTRACT = load_contracts().types[ISSUED]


def digest(data: dict[str, Any], schema: Any = CONTRACT.schema, schemas: MemorySchemas | None = None) -> bytes:
    """Write data in a schema, and return the content digest of what is read."""
    known = schemas or MemorySchemas()
    codec = Codec(known)
    return codec.decode(codec.encode(f"{schema['namespace']}.{schema['name']}", schema, data)).content_digest()


@pytest.fixture
def data() -> dict[str, Any]:
    """The type's sample as the codec takes it."""
    from datetime import UTC, datetime

    from schemas.validation import ValidationRules, Validator

    return Validator(CONTRACT, ValidationRules()).validate(CONTRACT.sample, datetime(2030, 1, 1, tzinfo=UTC)).data


def test_a_field_that_a_newer_version_adds_changes_nothing_until_it_is_filled_in(data: dict[str, Any]) -> None:
    """The id in the frame is another one; the content is the same, whatever the default."""
    newer = copy.deepcopy(CONTRACT.schema)
    newer["fields"] += [
        {"name": "channel", "type": ["null", "string"], "default": None},
        {"name": "copies", "type": "int", "default": 1},
    ]
    schemas = MemorySchemas()
    before = digest(data, CONTRACT.schema, schemas)
    assert digest({**data, "channel": None, "copies": 1}, newer, schemas) == before
    assert digest({**data, "channel": "window", "copies": 1}, newer, schemas) != before
    assert digest({**data, "channel": None, "copies": 2}, newer, schemas) != before


def test_what_the_platform_derives_is_no_content(data: dict[str, Any]) -> None:
    """Marks that a later rule gives make no other event of a publisher's."""
    assert digest({**data, "quality": ["check-character"]}) == digest(data)
    assert digest({**data, "institution_name": "another"}) != digest(data)


def test_a_message_id_is_the_identity_of_its_event() -> None:
    """It is stable, and differs with each of source, id and subject."""
    first = ("urn:a", "1", "k")
    changed = (first, ("urn:b", "1", "k"), ("urn:a", "2", "k"), ("urn:a", "1", "l"))
    assert len({message_id(*event) for event in changed}) == len(changed)
    assert message_id(*first) == f"evt_{identity('urn:a', '1', 'k').hex()}" == "evt_554cd4e602462b19956a00304c5052dd"
