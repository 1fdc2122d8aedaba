"""A number that is too large for Avro or for a check makes an invalid event, never a stopped line."""

from __future__ import annotations

import pytest

from producers.publishing import Publishing
from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.runtime.clock import SystemClock
from services.runtime.errors import InvalidError
from services.runtime.settings import GatewaySettings
from tests.fakes.schemas import MemorySchemas

WHOLE = {"int", "long"}
NUMBERS = [
    (name, field["name"])
    for name, contract in load_contracts().types.items()
    for field in contract.fields()
    if isinstance(field["type"], str) and field["type"] in WHOLE and "derived" not in field
]


@pytest.mark.parametrize(("event_type", "field"), NUMBERS)
@pytest.mark.parametrize("number", [2**63 - 1, 2**64 - 1])
def test_it_is_an_invalid_event_or_fits(event_type: str, field: str, number: int) -> None:
    """Every whole number of every type, at the limits of 64 bits."""
    publishing = Publishing(
        load_contracts(),
        MemorySchemas(),  # type: ignore[arg-type]
        "http://registry",
        Topics(),
        GatewaySettings(),
        SystemClock(),
    )
    data = {**load_contracts().types[event_type].sample, field: number}
    attributes = {"id": "1", "source": "urn:test", "type": event_type}
    if number > 2**63 - 1:
        with pytest.raises(InvalidError):
            publishing.prepare(attributes, data)
    else:
        refused_or_encoded(publishing, attributes, data)


def refused_or_encoded(publishing: Publishing, attributes: dict[str, str], data: dict[str, object]) -> None:
    """A long may hold the number, an int may not: nothing else may happen than one of the two."""
    try:
        assert publishing.prepare(attributes, data).value
    except InvalidError as error:
        assert error.problems
