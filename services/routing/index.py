"""Which attribute values a filter can hold for at all, so that an event is shown to few of many subscriptions.

The index only leaves out what can't match; whether a filter holds is still decided by the filter itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Access:
    """A filter holds only where an attribute is one of these values, or begins with one (``length`` above 0).

    ``absent``: also where the event has no such attribute. ``whole``: and always then, so nothing is left to decide.
    """

    attribute: str
    length: int
    values: frozenset[str]
    absent: bool = False
    whole: bool = False


def access_of(filters: Sequence[Mapping[str, Any]], scope: Sequence[str] = ()) -> Access | None:
    """Return the best way to find a subscription, None when only trying it tells.

    ``scope`` are the prefixes of divisions that it reaches; events without a division are in everybody's scope.
    """
    # Subscriptions lie by type already, so a filter on the type finds nothing further.
    ways = [way for way in _ways({"all": list(filters)}) if way.attribute != "type"]
    lengths = {len(prefix) for prefix in scope}
    if len(lengths) == 1:
        ways.append(Access("division", lengths.pop(), frozenset(scope), absent=True))
    if not ways:
        return None
    best = max(ways, key=lambda way: (way.length == 0, way.length, -len(way.values)))
    whole = not scope and len(filters) == 1 and _decides(filters[0], best)
    return Access(best.attribute, best.length, best.values, best.absent, whole)


def _ways(expression: Mapping[str, Any]) -> list[Access]:
    ((dialect, operand),) = expression.items()
    match dialect:
        case "exact":
            return [Access(name, 0, frozenset([value])) for name, value in operand.items()]
        case "prefix":
            return [Access(name, len(value), frozenset([value])) for name, value in operand.items()]
        case "all":
            return [way for one in operand for way in _ways(one)]
        case "any":
            return _common([_ways(one) for one in operand])
    return []


def _common(branches: Sequence[Sequence[Access]]) -> list[Access]:
    """Return the ways that every branch has, with the values of all."""
    found = []
    for way in branches[0]:
        values = [
            next((w.values for w in branch if (w.attribute, w.length) == (way.attribute, way.length)), None)
            for branch in branches
        ]
        known = [value for value in values if value is not None]
        if len(known) == len(branches):
            found.append(Access(way.attribute, way.length, frozenset().union(*known)))
    return found


def _decides(expression: Mapping[str, Any], way: Access) -> bool:
    """Tell whether a filter says nothing but this."""
    ((dialect, operand),) = expression.items()
    if dialect == "any":
        return all(_decides(one, way) for one in operand)
    wanted = "prefix" if way.length else "exact"
    return dialect == wanted and len(operand) == 1 and way.attribute in operand


class Index(Generic[T]):
    """Finds what was put in under the values of an event's attributes."""

    def __init__(self) -> None:
        self._always: list[T] = []
        self._tables: dict[tuple[str, int], dict[str | None, list[T]]] = {}

    def put(self, access: Access | None, item: T) -> None:
        """Put something in."""
        if access is None:
            self._always.append(item)
            return
        table = self._tables.setdefault((access.attribute, access.length), defaultdict(list))
        for value in access.values:
            table[value].append(item)
        if access.absent:
            table[None].append(item)

    def find(self, attributes: Mapping[str, str]) -> Iterable[T]:
        """Give what may concern an event, each once."""
        yield from self._always
        for (attribute, length), table in self._tables.items():
            value = attributes.get(attribute)
            found = table.get(value[:length] if length and value is not None else value)
            if found:
                yield from found
