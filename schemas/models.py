"""A pydantic model for each event type, derived from its Avro schema: one place says what a field is."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, create_model

from schemas.contracts import ContractError, EventContract, Schema
from schemas.formats import FORMATS
from schemas.times import parse_time

_PRIMITIVES: dict[str, Any] = {
    "string": str,
    "int": Annotated[int, Field(ge=-(2**31), lt=2**31)],
    "long": Annotated[int, Field(ge=-(2**63), lt=2**63)],
    "double": Annotated[float, Field(allow_inf_nan=False)],
    "boolean": bool,
}
_REFUSALS = {
    "check-character": "校验码不符 (the check character is wrong)",
    "unusual-form": "号码形式异常 (a number of unusual form)",
    "offset-assumed": "时间缺少时区 (the time has no offset)",
}
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")
_LOGICAL: dict[str, type] = {"date": date, "timestamp-millis": datetime}


class EventData(BaseModel):
    """What every event's data has in common: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


def model_for(contract: EventContract) -> type[EventData]:
    """Return the model of what a publisher sends: the schema's fields without those that the platform derives.

    Validating with ``context={"marks": [...], ...}`` collects quality marks there (see :mod:`schemas.validation`).
    """
    return _record(contract, contract.schema)


def _record(contract: EventContract, record: Schema) -> type[EventData]:
    fields: dict[str, Any] = {}
    for field in record["fields"]:
        if "derived" not in field:
            fields[field["name"]] = (_annotation(contract, field), Field(**_constraints(field)))
    return create_model(f"{record['name']}Data", __base__=EventData, **fields)


def _constraints(field: Schema) -> dict[str, Any]:
    names = {"minimum": "ge", "maximum": "le", "max_length": "max_length", "min_items": "min_length"}
    found = {ours: field[theirs] for theirs, ours in names.items() if theirs in field}
    return found | ({"default": field["default"]} if "default" in field else {})


def _annotation(contract: EventContract, field: Schema) -> Any:  # noqa: ANN401  (an annotation has no narrower type)
    kind = field["type"]
    optional = isinstance(kind, list)
    if optional:
        kind = next(branch for branch in kind if branch != "null")
    annotation = _of_kind(contract, field, kind)
    return annotation | None if optional else annotation


def _of_kind(contract: EventContract, field: Schema, kind: Any) -> Any:  # noqa: ANN401
    if isinstance(kind, dict) and kind["type"] == "array":
        return list[_of_kind(contract, field, kind["items"])]  # type: ignore[misc]
    if isinstance(kind, dict) and kind["type"] == "record":
        return _record(contract, kind)
    if isinstance(kind, dict):
        logical = _LOGICAL.get(kind.get("logicalType", ""))
        if logical is None:
            raise ContractError(f"{contract.type}: field {field['name']} has a type that models don't know: {kind}")
        return Annotated[logical, BeforeValidator(_read_time if logical is datetime else _read_date)]
    if "symbols" in field:
        return Literal[tuple(field["symbols"])]
    if "format" in field:
        return Annotated[_PRIMITIVES[kind], AfterValidator(_checker(FORMATS[field["format"]]))]
    if kind == "string":
        return Annotated[str, Field(min_length=1)]
    return _PRIMITIVES[kind]


def _read_time(value: object, info: ValidationInfo) -> datetime:
    if isinstance(value, date):
        value = value.isoformat()
    if isinstance(value, str):
        found, assumed = parse_time(value)
        if assumed:
            _mark(info, "offset-assumed")
        return found
    raise ValueError("应为 RFC 3339 时间的文字 (text is needed: a time of RFC 3339)")


def _read_date(value: object) -> object:
    """Refuse numbers, which would be taken for seconds since 1970 whatever they were meant to be."""
    if not isinstance(value, str | date) or (isinstance(value, str) and _NUMBER.fullmatch(value.strip())):
        raise ValueError("应为日期的文字，例 2025-12-02 (text is needed: a date of ISO 8601)")
    return value


def _checker(check: Callable[[str], tuple[str, str | None]]) -> Callable[[str, ValidationInfo], str]:
    def checked(value: str, info: ValidationInfo) -> str:
        kept, mark = check(value)
        if mark is not None:
            _mark(info, mark)
        return kept

    return checked


def _mark(info: ValidationInfo, mark: str) -> None:
    if info.context is not None:
        if mark in info.context["refused_marks"]:
            raise ValueError(_REFUSALS.get(mark, mark))
        info.context["marks"].append(f"{info.field_name}:{mark}")
