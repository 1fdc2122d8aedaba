"""The mapping file: how the rows of a query become events. YAML, checked whole against the event types when loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, field_validator

from schemas.contracts import Contracts, EventContract
from services.runtime.errors import FieldProblem, InvalidError
from services.runtime.mistakes import bad_fields

Codes = Mapping[str, Any]
FROM = ("column", "const", "now", "field")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _code_table(given: object) -> object:
    if not isinstance(given, dict):
        return given
    if any(isinstance(code, bool) or code is None for code in given):
        raise ValueError("yes、no、on、off 与空值在 YAML 里不是文字，请加引号 (quote such codes)")
    return {str(code): value for code, value in given.items()}


def _value(given: object) -> object:
    return {"column": given} if isinstance(given, str) else given


CodeTable = Annotated[dict[str, Any], BeforeValidator(_code_table)]


class Value(_Part):
    """Where a field's value comes from: a column, a constant, the moment of detection, or the row's event before.

    Of a column: ``codes`` translates, ``format`` reads text as a time (strptime), ``split`` parts text into a list,
    ``json`` reads JSON text; ``default`` stands for an empty one.
    """

    column: str | None = None
    const: Any = None
    now: Literal["time", "date"] | None = None
    field: str | None = None
    codes: str | CodeTable | None = None
    format: str | None = None
    split: str | None = None
    json_text: bool = Field(False, alias="json")
    default: Any = None

    def origins(self) -> int:
        """Return from how many places it says to come; one is right."""
        return sum(name in self.model_fields_set for name in FROM)


Fields = dict[str, Annotated[Value, BeforeValidator(_value)]]


class Cursor(_Part):
    """The column that grows with every change; ``overlap`` is in seconds for times, else in the column's own units.

    ``format`` (strptime) tells how a text column holds a time. ``start`` leaves out what is older.
    """

    column: str
    overlap: float = Field(600, ge=0)
    format: str | None = None
    start: Any = None


class FollowUp(_Part):
    """The event of a row that has changed. Fields not named are the row's own, where the type has them."""

    type: str
    fields: Fields = {}


class Deleted(FollowUp):
    """The event of a row that is gone. More than ``limit`` at once are withheld: the query may have gone wrong."""

    limit: int = Field(100, ge=1)


Attribute = Literal["time", "division", "traceparent", "tracestate"]


class TableMapping(_Part):
    """One query, and what becomes of its rows."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,60}$")
    url: SecretStr | None = None
    source: str = Field(min_length=1)
    type: str
    query: str = Field(min_length=1)
    key: Annotated[tuple[str, ...], Field(min_length=1)]
    cursor: Cursor
    time_zone: str = "Asia/Shanghai"
    fields: Fields
    attributes: dict[
        Literal["time", "division", "traceparent", "tracestate"], Annotated[Value, BeforeValidator(_value)]
    ] = {}
    codes: dict[str, CodeTable] = {}
    changed: FollowUp | Literal["ignore"] | None = None
    deleted: Deleted | None = None
    compare_s: float | None = Field(None, gt=0)
    poll_s: float = Field(5.0, gt=0)
    retry_s: float = Field(60.0, gt=0)
    batch: int = Field(500, ge=1, le=2000)
    max_rejects: int = Field(10_000, ge=1)

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"没有这个时区 (unknown time zone): {name}") from error
        return name

    @property
    def zone(self) -> ZoneInfo:
        """Return the zone of times without one."""
        return ZoneInfo(self.time_zone)

    def code_table(self, value: Value) -> Codes | None:
        """Return the codes that a value goes by."""
        return self.codes[value.codes] if isinstance(value.codes, str) else value.codes

    def columns(self) -> list[str]:
        """Return the columns that the query must have, in lower case."""
        named = [*self.key, self.cursor.column]
        named += [value.column for _, value, _ in self._values() if value.column is not None]
        return list(dict.fromkeys(name.lower() for name in named))

    def _values(self) -> Iterator[tuple[str, Value, str]]:
        """Give every value with its place in the file and the kind of event that it is for."""
        attributes = {str(name): value for name, value in self.attributes.items()}
        parts = [("fields", self.fields, "row"), ("attributes", attributes, "row")]
        if isinstance(self.changed, FollowUp):
            parts.append(("changed/fields", self.changed.fields, "changed"))
        if self.deleted is not None:
            parts.append(("deleted/fields", self.deleted.fields, "deleted"))
        for place, values, kind in parts:
            yield from ((f"/{place}/{name}", value, kind) for name, value in values.items())

    def problems(self, contracts: Contracts) -> list[FieldProblem]:
        """Return everything that can't work."""
        found = [p for place, value, kind in self._values() for p in self._value_problems(place, value, kind)]
        base = contracts.types.get(self.type)
        if base is None:
            return [*found, _unknown_type("/type", self.type)]
        found += _field_problems("/fields", base, set(self.fields), set())
        for place, follow_up in (("/changed", self.changed), ("/deleted", self.deleted)):
            if isinstance(follow_up, FollowUp):
                contract = contracts.types.get(follow_up.type)
                if contract is None:
                    found.append(_unknown_type(f"{place}/type", follow_up.type))
                else:
                    given = set(follow_up.fields)
                    found += _field_problems(f"{place}/fields", contract, given, set(self.fields) & _names(contract))
        if self.deleted is not None and self.compare_s is None:
            found.append(FieldProblem("/compare_s", "deleted 需要它：隔多久全量对比一次 (needed for deleted)"))
        return found

    def _value_problems(self, place: str, value: Value, kind: str) -> Iterator[FieldProblem]:
        if value.origins() != 1:
            yield FieldProblem(place, f"应恰好给出其中一个 (exactly one of): {', '.join(FROM)}")
        if kind == "row" and value.now is not None:
            yield FieldProblem(place, "now 只用于 changed 与 deleted：每次读到的都不同 (differs at every look)")
        if kind == "deleted" and value.column is not None:
            yield FieldProblem(place, "行已不在，没有列可用；用 field、const 或 now (the row is gone)")
        if value.field is not None and (kind == "row" or value.field not in self.fields):
            yield FieldProblem(place, f"field 应指 fields 里的字段 (no such field): {value.field}")
        if isinstance(value.codes, str) and value.codes not in self.codes:
            yield FieldProblem(place, f"codes 里没有这张表 (no such table of codes): {value.codes}")


def load_mapping(path: Path, contracts: Contracts) -> TableMapping:
    """Load a mapping file; raises InvalidError that names everything that can't work."""
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
        mapping = TableMapping.model_validate(given)
    except ValidationError as error:
        raise InvalidError(bad_fields(error.errors())) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidError([FieldProblem(f"/{path.name}", f"读不了 (can't be read): {error}")]) from error
    problems = mapping.problems(contracts)
    if problems:
        raise InvalidError(problems)
    return mapping


def _names(contract: EventContract) -> set[str]:
    return {f["name"] for f in contract.fields() if "derived" not in f}


def _field_problems(place: str, contract: EventContract, given: set[str], inherited: set[str]) -> list[FieldProblem]:
    needed = {f["name"] for f in contract.fields() if "default" not in f and "derived" not in f}
    missing = sorted(needed - given - inherited)
    unknown = sorted(given - _names(contract))
    return [
        *(FieldProblem(f"{place}/{name}", f"{contract.type} 的必填字段，没有给出 (missing)") for name in missing),
        *(FieldProblem(f"{place}/{name}", f"{contract.type} 没有这个字段 (unknown field)") for name in unknown),
    ]


def _unknown_type(place: str, name: str) -> FieldProblem:
    return FieldProblem(place, f"没有这个事件类型 (unknown event type): {name}")
