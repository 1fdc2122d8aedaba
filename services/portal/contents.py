"""What a grant names must be there: types that are shared, attributes, fields of data, fields of its policy.

Looked at when a grant is applied for and approved, and again while it is in force, since a later schema may take away
what it names. An expression is also tried on the sample of every type: one that can't be evaluated on any of them could
never match, and is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from schemas.contracts import Contracts, EventContract, walk_fields
from schemas.envelope import ATTRIBUTES
from services.routing.fields import field_problems
from services.routing.filters import cel_variables, compile_filters, filters_within
from services.runtime.errors import FieldProblem, InvalidError

_TEXT = re.compile(r"(?<!\[)(['\"])(?:\\.|(?!\1).)*\1")
_DATA_PATH = re.compile(r"\bdata((?:\.[A-Za-z_]\w*|\[['\"]\w+['\"]\])+)(\s*\()?")
_STEP = re.compile(r"[A-Za-z_]\w*")
_BOUND = re.compile(r"\.(?:all|exists|exists_one|map|filter)\s*\(\s*([A-Za-z_]\w*)\s*,")
_ANY: Mapping[str, Any] = {"string": "x", "bytes": "x", "boolean": True, "null": None}


def content_problems(
    contracts: Contracts,
    types: Sequence[str],
    filters: Sequence[Mapping[str, Any]],
    fields: Mapping[str, Any] | None,
) -> list[FieldProblem]:
    """Return what a grant names that is not there, not shared, or can't be."""
    problems = [*_type_problems(contracts, types), *_filter_problems(filters)]
    if problems:
        return problems
    known = [contracts.types[name] for name in types]
    for number, expression in enumerate(filters):
        for pointer, dialect, operand in filters_within(expression, f"/filters/{number}"):
            found = _cel_problems(pointer, operand, known) if dialect == "cel" else _names(pointer, operand)
            problems += found
    if fields is not None:
        problems += field_problems(fields, {one.type: one.schema for one in known}) or _key_problems(fields, known)
    return problems


def _type_problems(contracts: Contracts, types: Sequence[str]) -> list[FieldProblem]:
    problems = []
    for number, name in enumerate(types):
        contract = contracts.types.get(name)
        if contract is None or contract.catalogue.probe:
            problems.append(FieldProblem(f"/types/{number}", f"没有这个事件类型 (unknown event type): {name}"))
        elif contract.catalogue.sharing == "none":
            problems.append(FieldProblem(f"/types/{number}", f"不予共享 (its owner does not share it): {name}"))
    return problems


def _filter_problems(filters: Sequence[Any]) -> Sequence[FieldProblem]:
    try:
        compile_filters(filters, lambda: None)
    except InvalidError as error:
        return error.problems
    return ()


def _names(pointer: str, operand: Mapping[str, Any]) -> list[FieldProblem]:
    return [
        FieldProblem(f"{pointer}/{name}", f"事件没有属性 {name}，应为 {'、'.join(sorted(ATTRIBUTES))} 之一 (unknown)")
        for name in operand
        if name not in ATTRIBUTES
    ]


def _cel_problems(pointer: str, text: str, contracts: Sequence[EventContract]) -> list[FieldProblem]:
    bound = set(_BOUND.findall(text))
    problems = [
        FieldProblem(pointer, f"没有属性 {name}；数据的字段写作 data.{name} (no such attribute; of data: data.{name})")
        for name in sorted(cel_variables(text) - ATTRIBUTES - bound - {"data"})
    ]
    problems += [
        FieldProblem(pointer, f"所订类型都没有字段 data.{path} (no type of the grant has it)")
        for path in sorted({path for path in _paths(text) if not any(_has(one, path) for one in contracts)})
    ]
    if not problems and not any(_evaluates(text, one) for one in contracts):
        detail = "在所订类型的样例上都不能求值，永远不会匹配 (can't be evaluated on the sample of any type)"
        problems.append(FieldProblem(pointer, detail))
    return problems


def _paths(text: str) -> Iterator[str]:
    """Give the paths of data's fields that an expression names; what is called at the end of one is no field."""
    for steps, called in _DATA_PATH.findall(_TEXT.sub("''", text)):
        path = _STEP.findall(steps)[: -1 if called else None]
        if path:
            yield ".".join(path)


def _has(contract: EventContract, path: str) -> bool:
    fields = dict(walk_fields(contract.schema))
    if path in fields:
        return True
    around = path
    while around := around.rpartition(".")[0]:
        if around in fields:
            return "map" in str(fields[around]["type"])  # a map has whatever keys
    return False


def _evaluates(text: str, contract: EventContract) -> bool:
    """Tell whether an expression says yes or no on a type's sample, as it is or with every field filled in."""
    sample = {field["name"]: contract.sample.get(field["name"], field.get("default")) for field in contract.fields()}
    filled = {field["name"]: _some(field["type"]) for field in contract.fields()}
    filled |= {name: value for name, value in sample.items() if value not in (None, [])}
    attributes = dict.fromkeys(ATTRIBUTES, "1") | {
        "specversion": "1.0",
        "type": contract.type,
        "division": "510100",
        "time": "2026-01-01T00:00:00+08:00",
        "recordedtime": "2026-01-01T00:00:00+08:00",
    }
    predicate = compile_filters([{"cel": text}], lambda: None)

    def tells(data: Mapping[str, Any]) -> bool:
        return predicate(attributes, lambda: data) is not None

    return tells(sample) or tells(filled)


def _some(kind: Any) -> Any:  # noqa: ANN401  (a value of an Avro type)
    """Return some value of a type, as JSON has it."""
    if isinstance(kind, list):
        return _some(next((branch for branch in kind if branch != "null"), "null"))
    if isinstance(kind, str):
        return _ANY.get(kind, 1)
    match kind["type"]:
        case "record":
            return {field["name"]: _some(field["type"]) for field in kind["fields"]}
        case "array":
            return [_some(kind["items"])]
        case "map":
            return {"x": _some(kind["values"])}
        case "enum":
            return kind["symbols"][0]
    texts = {"date": "2026-01-01", "decimal": "1"}
    logical = str(kind.get("logicalType"))
    return texts.get(logical, "2026-01-01T00:00:00+08:00" if "timestamp" in logical else _some(kind["type"]))


def _key_problems(fields: Mapping[str, Any], contracts: Sequence[EventContract]) -> list[FieldProblem]:
    keys = {name for one in contracts for name in one.catalogue.business_key}
    return [
        FieldProblem(f"/fields/{name}/{number}", f"{path} 属于业务主键，事件的 subject 里就有 (it is in the subject)")
        for name in ("mask", "drop")
        for number, path in enumerate(fields.get(name, ()))
        if path in keys
    ]
