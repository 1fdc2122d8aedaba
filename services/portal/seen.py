"""What somebody may see of an event's data: every field by its place, those they have no right to named, not shown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.contracts import EventContract, walk_fields
from schemas.labels import label_of

CLOSED = frozenset({"personal", "sensitive"})
"""Sensitivities of fields that only those are shown who have a right to the event's data."""
UNKNOWN = "personal"
"""What a field counts as that no schema of ours knows."""
HIDDEN = "＊"


@dataclass(frozen=True, slots=True)
class SeenField:
    """A field at the top of an event's data. ``value`` is text; None where ``hidden``, or where there is none."""

    name: str
    label: str
    sensitivity: str
    value: str | None
    hidden: bool = False


def seen_fields(data: Mapping[str, Any], contract: EventContract | None, *, whole: bool) -> list[SeenField]:
    """Return the fields of data (JSON values); without ``whole`` personal ones are hidden, also inside of others."""
    known = dict(walk_fields(contract.schema)) if contract is not None else {}
    levels = {path: str(field["sensitivity"]) for path, field in known.items()}
    found = []
    for name, value in data.items():
        label = label_of(known[name]["doc"]) if name in known else ""
        level = levels.get(name, UNKNOWN)
        hidden = not whole and level in CLOSED
        shown = None if hidden or value is None else _text(value if whole else _without(value, name, levels))
        found.append(SeenField(name, label, level, shown, hidden))
    return found


def personal_fields(data: Mapping[str, Any], contract: EventContract | None) -> list[str]:
    """Return the paths of the personal fields that data has: what is on record when somebody is shown it whole."""
    levels = contract.sensitivities() if contract is not None else {}
    return sorted({path for path in _paths(data, "") if _level(path, levels) in CLOSED})


def _without(value: Any, path: str, levels: Mapping[str, str]) -> Any:  # noqa: ANN401  (a JSON value)
    """Return a value with what is personal inside of it hidden."""
    if isinstance(value, Mapping):
        inner = {name: f"{path}.{name}" for name in value}
        return {
            name: HIDDEN if _level(at, levels) in CLOSED else _without(value[name], at, levels)
            for name, at in inner.items()
        }
    if isinstance(value, list):
        return [_without(one, path, levels) for one in value]
    return value


def _level(path: str, levels: Mapping[str, str]) -> str:
    """Return a place's sensitivity: that of what it lies in where that is personal, else the one said of it."""
    steps = path.split(".")
    said = [levels[at] for n in range(len(steps)) if (at := ".".join(steps[: n + 1])) in levels]
    return next((level for level in said if level in CLOSED), said[-1]) if said else UNKNOWN


def _paths(value: Any, path: str) -> Iterator[str]:  # noqa: ANN401
    if isinstance(value, Mapping):
        for name, one in value.items():
            at = f"{path}.{name}" if path else name
            yield at
            yield from _paths(one, at)
    elif isinstance(value, list):
        for one in value:
            yield from _paths(one, path)


def _text(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence) and all(isinstance(one, str) for one in value):
        return "\n".join(value)
    return json.dumps(value, ensure_ascii=False, indent=2 if isinstance(value, Mapping | list) else None)
