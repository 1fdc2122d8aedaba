"""What has changed between two versions of a thing: of a grant by its parts, of a schema by its fields."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from schemas.contracts import Schema, walk_fields
from services.catalogue.entry import type_name

_KEPT_ASIDE = ("doc", "sensitivity", "default", "format", "symbols", "aliases", "minimum", "maximum", "max_length")
GRANT_PARTS = (
    "types",
    "filters",
    "fields",
    "divisions",
    "forward_to",
    "basis",
    "scene",
    "scope",
    "method",
    "valid_from",
    "valid_until",
    "backfill_from",
    "replaces",
)
"""What a grant says; the rest of its row is who decided and when, which its decisions tell."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is another: added (no ``before``), removed (no ``after``) or changed."""

    place: str
    before: str | None
    after: str | None

    @property
    def kind(self) -> Literal["added", "removed", "changed"]:
        """Return which of the three it is."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"


def grant_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """Return what of a grant was changed; of a list what was added to it and taken from it."""
    found: list[Difference] = []
    for part in GRANT_PARTS:
        old, new = before.get(part), after.get(part)
        if old == new:
            continue
        if isinstance(old, list) and isinstance(new, list):
            found += _listed(part, old, new)
        elif isinstance(old, Mapping) and isinstance(new, Mapping):
            for name in sorted(old.keys() | new.keys()):
                found += _listed(f"{part}.{name}", old.get(name, []), new.get(name, []))
        else:
            found.append(Difference(part, _text(old), _text(new)))
    return found


def schema_differences(before: Schema, after: Schema) -> list[Difference]:
    """Return what of a schema was changed, field by field and property by property."""
    old, new = dict(walk_fields(before)), dict(walk_fields(after))
    found = [Difference(path, None, _field(field)) for path, field in new.items() if path not in old]
    found += [Difference(path, _field(field), None) for path, field in old.items() if path not in new]
    for path in (path for path in new if path in old):
        one, other = _properties(old[path]), _properties(new[path])
        found += [
            Difference(f"{path} · {name}", one.get(name), other.get(name))
            for name in dict.fromkeys((*one, *other))
            if one.get(name) != other.get(name)
        ]
    if before.get("doc") != after.get("doc"):
        found.append(Difference("doc", before.get("doc"), after.get("doc")))
    return found


def _listed(place: str, old: Sequence[Any], new: Sequence[Any]) -> Iterator[Difference]:
    yield from (Difference(place, None, _text(one)) for one in new if one not in old)
    yield from (Difference(place, _text(one), None) for one in old if one not in new)


def _properties(field: Schema) -> dict[str, str | None]:
    found: dict[str, str | None] = {"type": _type(field["type"])}
    return found | {name: json.dumps(field[name], ensure_ascii=False) for name in _KEPT_ASIDE if name in field}


def _type(kind: Any) -> str:  # noqa: ANN401  (an Avro type)
    optional = isinstance(kind, list) and "null" in kind
    return f"{type_name(kind)}?" if optional else type_name(kind)


def _field(field: Schema) -> str:
    return f"{_type(field['type'])} {field.get('sensitivity', '')} {field.get('doc', '')}".strip()


def _text(value: Any) -> str | None:  # noqa: ANN401  (a JSON value)
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
