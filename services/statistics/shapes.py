"""What a fact keeps of an event, by its type's contract: dimensions, details, and nothing that is personal.

Dimensions are the fields of few values, by which a figure may be broken down; the many events that share them share one
cell. Details are the fields left, kept for sums, distinct counts and populations that ask for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.contracts import Contracts, EventContract, Schema
from schemas.receipts import OUTCOMES

DELIVERY = "hongyan.delivery"
"""The type of facts about the push service itself: one for each receipt."""

PSEUDO_DIMENSIONS = ("source", "type")
"""Dimensions that every fact has, whatever its type: whose it is, and its type."""

ORGANISATIONS = ("department", "organiser", "owner", "reviewer", "authority")
KEPT_SENSITIVITIES = ("public", "internal")
_NUMBERS = ("int", "long", "double")


@dataclass(frozen=True, slots=True)
class Shape:
    """The fields of one type. ``symbols`` are the only values a dimension may have, where they are fixed."""

    type: str
    time_field: str
    dimensions: tuple[str, ...]
    details: tuple[str, ...] = ()
    numbers: frozenset[str] = frozenset()
    nullable: frozenset[str] = frozenset()
    symbols: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sample: Mapping[str, Any] = field(default_factory=dict)

    def fields(self) -> frozenset[str]:
        """Return every field that a definition may name."""
        return frozenset((*self.dimensions, *self.details))


def shape_of(contract: EventContract) -> Shape:
    """Return the shape of an event type's facts."""
    dimensions, details, numbers, nullable = [], [], set(), set()
    symbols: dict[str, tuple[str, ...]] = {}
    for one in _kept(contract):
        name, kind = one["name"], _plain(one["type"])
        if _is_dimension(one, kind):
            dimensions.append(name)
        else:
            details.append(name)
        if kind in _NUMBERS:
            numbers.add(name)
        if isinstance(one["type"], list):
            nullable.add(name)
        if "symbols" in one:
            symbols[name] = tuple(one["symbols"])
    return Shape(
        type=contract.type,
        time_field=contract.catalogue.time_field,
        dimensions=tuple(dimensions),
        details=tuple(details),
        numbers=frozenset(numbers),
        nullable=frozenset(nullable),
        symbols=symbols,
        sample={name: contract.sample.get(name) for name in (*dimensions, *details)},
    )


def shapes(contracts: Contracts) -> Mapping[str, Shape]:
    """Return the shapes of all types, the push service's own among them."""
    return {name: shape_of(contract) for name, contract in contracts.types.items()} | {DELIVERY: _DELIVERY}


def matching(patterns: Iterable[str], known: Mapping[str, Shape]) -> list[str]:
    """Return the types that are named: one that ends with ``.*`` names all of that beginning."""
    found: dict[str, None] = {}
    for pattern in patterns:
        start = pattern.removesuffix("*")
        names = [name for name in known if name.startswith(start)] if pattern.endswith(".*") else [pattern]
        found.update(dict.fromkeys(names))
    return list(found)


_DELIVERY = Shape(
    type=DELIVERY,
    time_field="last_at",
    dimensions=("publisher", "agency", "event_type", "channel", "outcome", "follow_up", "deadline"),
    details=("seconds", "attempts"),
    numbers=frozenset({"seconds", "attempts"}),
    nullable=frozenset({"seconds"}),
    symbols={"outcome": OUTCOMES, "deadline": ("within", "after", "none", "unknown")},
    sample={
        "publisher": "urn:sc:health",
        "agency": "market",
        "event_type": "cn.gov.sc.health.medical-ad-certificate.issued",
        "channel": "webhook",
        "outcome": "delivered",
        "follow_up": False,
        "deadline": "within",
        "seconds": 1,
        "attempts": 1,
    },
)


def _kept(contract: EventContract) -> Iterator[Schema]:
    left_out = {contract.catalogue.time_field, *contract.catalogue.business_key}
    for one in contract.fields():
        organisation = any(one["name"].startswith(f"{word}_") for word in ORGANISATIONS)
        if one["sensitivity"] not in KEPT_SENSITIVITIES or "derived" in one:
            continue
        # A number in a key, such as the round of a check, says what kind of case it is; other parts only name it.
        if one["name"] in left_out and not organisation and _plain(one["type"]) not in _NUMBERS:
            continue
        if _plain(one["type"]) is not None:
            yield one


def _is_dimension(one: Schema, kind: str | None) -> bool:
    organisation = any(one["name"] in (f"{word}_code", f"{word}_name") for word in ORGANISATIONS)
    return "symbols" in one or kind == "boolean" or one.get("format") == "division" or organisation


def _plain(kind: Any) -> str | None:  # noqa: ANN401  (an Avro type is text, a list or an object)
    """Return the name of a type that a fact can keep: text, number, truth, date or time; else None."""
    if isinstance(kind, list):
        return next((found for branch in kind if (found := _plain(branch)) not in {None, "null"}), None)
    if isinstance(kind, dict):
        return str(kind["logicalType"]) if kind.get("logicalType") in {"date", "timestamp-millis"} else None
    return str(kind) if kind in {"string", "boolean", "null", *_NUMBERS} else None
