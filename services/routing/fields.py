"""Field policies: which fields of an event a grant shows, masks or drops, and the Avro schema that follows from it.

A policy names the sensitivities that are granted whole (``levels``), and single fields by path: ``grant`` shows one of
another level, ``mask`` shows that it is there and hides what it says, ``drop`` takes one away. Whatever is not granted
is dropped, so a field that a later schema adds is shown only where its level is granted.

A masked text keeps its first character; a masked number, date, flag or code becomes null; a masked list of other things
than texts becomes empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import structlog

from schemas.contracts import SENSITIVITIES, Schema, walk_fields
from services.runtime.errors import FieldProblem, InvalidError
from services.subscriptions.control import policy_id

log = structlog.get_logger()
Outcome = Literal["show", "mask", "drop"]
LISTS = ("levels", "grant", "mask", "drop")
WITHHELD: Schema = {
    "name": "withheld",
    "type": "boolean",
    "default": True,
    "doc": "没有可见字段 (no field of this event is granted)",
}
LEAST: Mapping[str, Any] = {"levels": ["public"]}
_ORDER: Sequence[Outcome] = ("show", "mask", "drop")


@dataclass(frozen=True, slots=True)
class Rule:
    """One grant's field policy."""

    levels: frozenset[str]
    grant: frozenset[str]
    mask: frozenset[str]
    drop: frozenset[str]

    def outcome(self, path: str, sensitivity: str | None) -> Outcome:
        """Return what becomes of a field: what is said of its path or the nearest record around it, else its level."""
        at = path
        while at:
            if at in self.drop:
                return "drop"
            if at in self.mask:
                return "mask"
            if at in self.grant:
                return "show"
            at = at.rpartition(".")[0]
        return "show" if sensitivity in self.levels else "drop"


@dataclass(frozen=True, slots=True)
class FieldPolicy:
    """The union of grants' field policies: the most that any of them gives. ``id`` is made of its content."""

    id: str
    rules: Sequence[Rule]

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> FieldPolicy:
        """Return the policy of one grant."""
        lists = [frozenset(fields.get(name, ())) for name in LISTS]
        return cls(policy_id(fields), [Rule(*lists)])

    def outcome(self, path: str, sensitivity: str | None) -> Outcome:
        """Return what becomes of a field."""
        return min((rule.outcome(path, sensitivity) for rule in self.rules), key=_ORDER.index)

    def reaches_below(self, path: str) -> bool:
        """Tell whether a field inside this record is named, so that the record can't be dropped as a whole."""
        start = f"{path}."
        return any(name.startswith(start) for rule in self.rules for name in (*rule.grant, *rule.mask))

    def listing(self, schema: Schema) -> dict[str, Outcome]:
        """Return what becomes of every field of a schema, by path."""
        return {path: self.outcome(path, field.get("sensitivity")) for path, field in walk_fields(schema)}


def policy_of(identity: str, documents: Mapping[str, Mapping[str, Any]]) -> FieldPolicy:
    """Return the policy or the union of policies with this id. One that is not known (it can't be lost) gives least."""
    parts = identity.split("+")
    missing = [part for part in parts if part not in documents]
    if missing:
        log.error("policy_unknown", policies=missing)
    rules = [rule for part in parts for rule in FieldPolicy.of(documents.get(part, LEAST)).rules]
    return FieldPolicy(identity, rules)


def union_id(ids: Iterable[str]) -> str:
    """Return the id of a union of policies; with a whole grant (the empty id) among them it is whole."""
    found = {part for one in ids for part in (one.split("+") if one else [""])}
    return "" if "" in found else "+".join(sorted(found))


def field_problems(fields: Mapping[str, Any], schemas: Mapping[str, Schema]) -> list[FieldProblem]:
    """Return what is wrong with a policy for these types: unknown lists and levels, and fields that are not there.

    What is granted or masked must be in every type; what is dropped in one of them.
    """
    problems = [
        FieldProblem(f"/fields/{name}", f"应为 {', '.join(LISTS)} 之一 (one of these)")
        for name in fields.keys() - LISTS
    ]
    for name in (one for one in LISTS if one in fields):
        value = fields[name]
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            problems.append(FieldProblem(f"/fields/{name}", "应为文字的数组 (an array of texts)"))
    if problems:
        return problems
    for number, level in enumerate(fields.get("levels", ())):
        if level not in SENSITIVITIES:
            problems.append(FieldProblem(f"/fields/levels/{number}", f"应为 {', '.join(SENSITIVITIES)} 之一 (a level)"))
    known = {kind: {path for path, _ in walk_fields(schema)} for kind, schema in schemas.items()}
    for name in LISTS[1:]:
        for number, path in enumerate(fields.get(name, ())):
            lacking = [kind for kind, paths in known.items() if path not in paths]
            if lacking and (name != "drop" or len(lacking) == len(known)):
                detail = f"没有字段 {path} (has no such field): {', '.join(lacking)}"
                problems.append(FieldProblem(f"/fields/{name}/{number}", detail))
    return problems


def check_fields(fields: Mapping[str, Any] | None, schemas: Mapping[str, Schema]) -> None:
    """Raise InvalidError that names each bad part of a policy."""
    problems = field_problems(fields, schemas) if fields is not None else []
    if problems:
        raise InvalidError(problems)


Mask = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Derived:
    """What a policy makes of a schema: the derived schema, and what to do to data before it is written in it."""

    schema: Schema
    mask: Mask | None


def derive(schema: Schema, policy: FieldPolicy, *, cautious: bool = False) -> Derived | None:
    """Return the derived schema of a record, None when the policy leaves it whole.

    ``cautious`` gives every field that has no default a null one: so a field that comes back, since its level has
    changed, can be read from what was written without it.
    """
    deriver = _Deriver(policy, cautious, dict(_definitions(schema)))
    derived, mask = deriver.record(schema, "", masked=False)
    if not deriver.changed:
        return None
    kept = {name: value for name, value in derived.items() if name != "checks"}
    return Derived(kept | {"hongyan.policy": policy.id}, mask)


class _Deriver:
    """Walks a schema once. ``changed`` tells whether anything was dropped or masked."""

    def __init__(self, policy: FieldPolicy, cautious: bool, definitions: Mapping[str, Schema]) -> None:
        self.changed = False
        self._policy = policy
        self._cautious = cautious
        self._definitions = definitions
        self._masks: dict[str, Mask | None] = {}
        self._within: dict[str, str] = {}

    def record(
        self, record: Schema, prefix: str, *, masked: bool, name: str | None = None
    ) -> tuple[Schema, Mask | None]:
        """Derive a record at its place, under another name where it is not the place that defines it."""
        name = name or record["name"]
        self._masks[name], self._within[record["name"]] = None, name
        fields, masks = [], []
        for field in record["fields"]:
            made = self._field(field, prefix + field["name"], masked)
            if made is not None:
                fields.append(made[0])
                if made[1] is not None:
                    masks.append((field["name"], made[1]))
        mask = _record_mask(masks) if masks else None
        self._masks[name] = mask
        del self._within[record["name"]]
        return {**record, "name": name, "fields": fields or [WITHHELD]}, mask

    def _field(self, field: Schema, path: str, masked: bool) -> tuple[Schema, Mask | None] | None:
        outcome: Outcome = "mask" if masked else self._policy.outcome(path, field.get("sensitivity"))
        if outcome == "drop" and not self._policy.reaches_below(path):
            self.changed = True
            return None
        kind: Any
        mask: Mask | None
        if outcome == "mask":
            self.changed = True
            kind, mask = self._masked(field["type"], path)
        else:
            kind, mask = self._shown(field["type"], path)
        made = {**field, "type": kind}
        if isinstance(kind, list) and kind[0] == "null" and field["type"] != kind:
            made["default"] = None
        elif "default" in field:
            made["default"] = _default(field["default"], kind, mask)
        elif self._cautious:
            made |= {"type": _nullable(kind), "default": None}
        return made, mask

    def _shown(self, kind: Any, path: str) -> tuple[Any, Mask | None]:  # noqa: ANN401  (an Avro type)
        if isinstance(kind, str):
            return self._reference(kind, path)
        if isinstance(kind, list):
            made = [self._shown(branch, path) for branch in kind]
            masks = [mask for _, mask in made if mask is not None]
            return [branch for branch, _ in made], _branch_mask(masks[0]) if masks else None
        match kind["type"]:
            case "record":
                return self.record(kind, f"{path}.", masked=False)
            case "array":
                items, mask = self._shown(kind["items"], path)
                return {**kind, "items": items}, _list_mask(mask) if mask else None
            case "map":
                values, mask = self._shown(kind["values"], path)
                return {**kind, "values": values}, _map_mask(mask) if mask else None
            case "enum" | "fixed":
                self._masks[kind["name"]] = None
        return kind, None

    def _reference(self, name: str, path: str) -> tuple[Any, Mask | None]:
        """Return a named type; where the field that defines it was dropped, its definition moves here.

        A record may have other fields shown here than where it is defined, so it has a name of its own here: always,
        since a name must not change when what is shown does.
        """
        short = name.rpartition(".")[2]
        definition = self._definitions.get(short)
        if definition is None:
            return name, None
        if short in self._within:
            return self._within[short], self._masks[self._within[short]]
        if definition["type"] == "record":
            own = f"{short}_{path.replace('.', '_')}"
            return self.record(definition, f"{path}.", masked=False, name=own)
        return (name, None) if short in self._masks else self._shown(definition, path)

    def _masked(self, kind: Any, path: str) -> tuple[Any, Mask]:  # noqa: ANN401
        if kind == "string" or (isinstance(kind, dict) and kind["type"] == "string"):
            return "string", masked_text
        if isinstance(kind, list):
            others = [branch for branch in kind if branch != "null"]
            inner, mask = self._masked(others[0], path) if len(others) == 1 else ("string", _nothing)
            return _nullable(inner), _branch_mask(mask)
        if isinstance(kind, dict) and kind["type"] == "record":
            made, inner_mask = self.record(kind, f"{path}.", masked=True)
            return made, inner_mask or _same
        if isinstance(kind, dict) and kind["type"] == "array":
            items, mask = self._masked(kind["items"], path)
            texts_or_records = items == "string" or (isinstance(items, dict) and items["type"] == "record")
            return {**kind, "items": items}, _list_mask(mask) if texts_or_records else _emptied
        primitive = kind if isinstance(kind, str) else kind["type"]
        plain = primitive in {"boolean", "int", "long", "float", "double", "bytes"}
        return ["null", kind if plain else "string"], _nothing


def masked_text(text: str) -> str:
    """Return a text of which the first character is left: 张三丰 is 张**. What is longer than six shows no length."""
    return f"{text[:1]}{'*' * min(len(text) - 1, 5)}" if len(text) > 1 else "*" * len(text)


def _definitions(kind: Any) -> Iterable[tuple[str, Schema]]:  # noqa: ANN401
    """Give every named type below with its definition."""
    if isinstance(kind, list):
        for branch in kind:
            yield from _definitions(branch)
    elif isinstance(kind, dict):
        if kind["type"] in {"record", "enum", "fixed"}:
            yield kind["name"], kind
        for inner in (*(field["type"] for field in kind.get("fields", ())), kind.get("items"), kind.get("values")):
            yield from _definitions(inner)


def _nullable(kind: Any) -> list[Any]:  # noqa: ANN401
    branches = kind if isinstance(kind, list) else [kind]
    return ["null", *(branch for branch in branches if branch != "null")]


def _default(default: Any, kind: Any, mask: Mask | None) -> Any:  # noqa: ANN401
    if isinstance(default, dict) and isinstance(kind, dict) and kind["type"] == "record":
        names = {field["name"] for field in kind["fields"]}
        default = {name: value for name, value in default.items() if name in names}
    if mask is None or default is None:
        return default
    return mask(dict(default) if isinstance(default, dict) else default)


def _record_mask(masks: Sequence[tuple[str, Mask]]) -> Mask:
    def apply(data: Any) -> Any:  # noqa: ANN401
        for name, mask in masks:
            data[name] = mask(data[name])
        return data

    return apply


def _branch_mask(mask: Mask) -> Mask:
    return lambda value: None if value is None else mask(value)


def _list_mask(mask: Mask) -> Mask:
    return lambda values: [mask(value) for value in values]


def _map_mask(mask: Mask) -> Mask:
    return lambda values: {name: mask(value) for name, value in values.items()}


def _nothing(_value: object) -> None:
    return None


def _emptied(_value: object) -> list[Any]:
    return []


def _same(value: Any) -> Any:  # noqa: ANN401
    return value
