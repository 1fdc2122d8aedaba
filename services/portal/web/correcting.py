"""A dead letter as a form, and the form as a correction: only what was changed is corrected, what was hidden stays."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from schemas.contracts import Schema
from schemas.labels import label_of
from services.catalogue.entry import type_name
from services.portal.letters import SeenLetter
from services.portal.seen import CLOSED
from services.runtime.errors import FieldProblem, InvalidError

Kind = Literal["text", "whole", "number", "flag", "lines", "json"]
ATTRIBUTES = ("id", "source", "type", "time", "division", "follows")
"""The attributes that may be corrected; the others are written by the platform."""
_KINDS: Mapping[str, Kind] = {"int": "whole", "long": "whole", "double": "number", "boolean": "flag"}


@dataclass(frozen=True, slots=True)
class Input:
    """One thing that may be changed: its name in the form, what it holds now, and how it is written."""

    name: str
    pointer: str
    label: str
    doc: str
    kind: Kind
    value: str
    required: bool = False
    choices: Sequence[str] = ()


def attribute_inputs(seen: SeenLetter, *, all_of_them: bool) -> list[Input]:
    """Return the attributes; a department does not change whose event it is."""
    given = seen.letter["attributes"]
    names = ATTRIBUTES if all_of_them else [name for name in ATTRIBUTES if name not in {"id", "source"}]
    return [Input(f"attribute/{n}", f"/attributes/{n}", n, "", "text", str(given.get(n, ""))) for n in names]


def data_inputs(seen: SeenLetter, *, whole: bool) -> list[Input]:
    """Return the fields: those that are shown, and those of the type that the letter lacks."""
    known = {field["name"]: field for field in seen.contract.fields()} if seen.contract is not None else {}
    found = [_input(one.name, known.get(one.name), one.value) for one in seen.fields if not one.hidden]
    there = {one.name for one in seen.fields}
    return found + [
        _input(name, field, None)
        for name, field in known.items()
        if name not in there and "derived" not in field and (whole or field["sensitivity"] not in CLOSED)
    ]


def correction_of(
    form: Mapping[str, str], inputs: Sequence[Input], data: Mapping[str, Any]
) -> tuple[dict[str, str | None], dict[str, Any]]:
    """Return what was changed, of the attributes and of the data; raises InvalidError that names each bad field."""
    attributes: dict[str, str | None] = {}
    changed: dict[str, Any] = {}
    problems: list[FieldProblem] = []
    for one in inputs:
        text = form.get(one.name, one.value).replace("\r\n", "\n").strip()
        if text == one.value.strip():
            continue
        part, _, name = one.name.partition("/")
        if part == "attribute":
            attributes[name] = text or None
            continue
        try:
            value = _value(one.kind, text)
        except ValueError as error:
            problems.append(FieldProblem(one.pointer, str(error)))
            continue
        if value != data.get(name):
            changed[name] = value
    if problems:
        raise InvalidError(problems)
    return attributes, changed


def _input(name: str, field: Schema | None, value: str | None) -> Input:
    kind = type_name(field["type"]) if field is not None else "string"
    form: Kind = _KINDS.get(kind, "text")
    if kind == "string[]":
        form = "lines"
    elif kind.endswith("[]") or kind in {"record", "map"}:
        form = "json"
    doc = str(field["doc"]) if field is not None else ""
    choices = field.get("symbols", ()) if field is not None and form == "text" else ()
    required = field is not None and "default" not in field
    return Input(f"data/{name}", f"/data/{name}", label_of(doc) or name, doc, form, value or "", required, choices)


def _value(kind: Kind, text: str) -> Any:  # noqa: ANN401  (a JSON value)
    """Return what was written; nothing takes the field away. Raises ValueError."""
    if not text:
        return None
    match kind:
        case "whole":
            return _number(text, int, "应为整数 (a whole number)")
        case "number":
            return _number(text, float, "应为数 (a number)")
        case "flag":
            return {"true": True, "false": False}[text] if text in {"true", "false"} else text
        case "lines":
            return [line.strip() for line in text.split("\n") if line.strip()]
        case "json":
            try:
                return json.loads(text)
            except ValueError as error:
                raise ValueError(f"不是 JSON (is no JSON): {error}") from error
        case _:
            return text


def _number(text: str, kind: type[int] | type[float], detail: str) -> int | float:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(detail) from None
