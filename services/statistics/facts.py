"""From an event to a fact: pure, and by the contract alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.contracts import EventContract

DEFAULT_QUANTITY = 1
MAX_QUANTITY = 2**31 - 1
# An index entry of PostgreSQL holds at most 2,704 bytes.
MAX_KEY_BYTES = 2600


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact: the event's identity, what it counts for, and where it stands on the log."""

    source: str
    event_id: str
    type: str
    case_key: str
    occurred_at: datetime
    quantity: int
    dimensions: Mapping[str, str]
    digest: bytes
    topic: str
    partition: int
    offset: int


class FactShape:
    """What the facts of one event type are made of: the fields with fixed symbols are dimensions."""

    def __init__(self, contract: EventContract) -> None:
        self.type = contract.type
        self.subject = contract.subject
        self._contract = contract
        self._time_field = contract.catalogue.time_field
        self._dimensions = [f["name"] for f in contract.fields() if "symbols" in f]
        self._dimensions += [f["name"] for f in contract.fields() if f["name"] in {"department_code", "division"}]

    def fact(
        self, source: str, event_id: str, data: Mapping[str, Any], digest: bytes, place: tuple[str, int, int]
    ) -> Fact:
        """Return the fact of one event's data.

        Raises KeyError, TypeError or ValueError that names what the data lacks, or what no table can hold.
        """
        occurred_at = data[self._time_field]
        if not isinstance(occurred_at, datetime):
            raise TypeError(f"{self._time_field} is no time")
        dimensions = {name: data[name] for name in self._dimensions if isinstance(data.get(name), str)}
        quantity = int(data.get("count", DEFAULT_QUANTITY))
        if not 1 <= quantity <= MAX_QUANTITY:
            raise ValueError(f"count is {quantity}")
        case_key = self._contract.business_key(data)
        _check_storable(source, (event_id, self.type + case_key), dimensions.values())
        return Fact(source, event_id, self.type, case_key, occurred_at, quantity, dimensions, digest, *place)


def _check_storable(source: str, keys: Collection[str], texts: Collection[str]) -> None:
    if any("\0" in text for text in (source, *keys, *texts)):
        raise ValueError("a text holds the character NUL")
    if any(len(source.encode()) + len(key.encode()) > MAX_KEY_BYTES for key in keys):
        raise ValueError("source and id, or source and business key, are too long")
