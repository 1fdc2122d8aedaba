"""Which column is which field: by the field's name, or by the label that its schema gives it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson

from schemas.contracts import EventContract, Schema, nested_record
from schemas.labels import label_of, symbol_labels
from services.runtime.errors import FieldProblem, InvalidError

ENVELOPE_COLUMNS = {
    "id": "事件编号",
    "time": "事件时间",
    "subject": "业务主键",
    "division": "事件区划",
    "follows": "原事件编号",
    "traceparent": "traceparent",
    "tracestate": "tracestate",
}
REASON_COLUMNS = ("行 (row)", "字段 (field)", "问题 (problem)")
"""What a file of rejected rows begins with. They are passed over, so that it can be mended and imported as it is."""
_LIST_SEPARATORS = re.compile("[;；]")
_YES_NO = {"是": "true", "否": "false"}
_DATE = re.compile(r"^(\d{4})\s*[-/.年]\s*(\d{1,2})\s*[-/.月]\s*(\d{1,2})日?(?:[T ]+(\d{1,2}):(.*))?$")

Convert = Callable[[str], Any]
Target = tuple[str, bool, Convert | None]
"""A column's name, whether it is an attribute of the envelope, and how its text is read."""


class Columns:
    """The columns of one file, by a contract."""

    def __init__(self, contract: EventContract, header: Sequence[str]) -> None:
        """Raise InvalidError that names the columns that are no field, and those that name one field twice."""
        known = dict(_known(contract))
        self.header = header
        self._width = max((number for number, name in enumerate(header, start=1) if name), default=0)
        self._targets = [known.get(name) if name and name not in REASON_COLUMNS else None for name in header]
        unknown = [name for name in header if name and name not in known and name not in REASON_COLUMNS]
        if unknown:
            raise _refused(
                f"没有这些列 (unknown columns): {'、'.join(unknown)}；可用的列: {'、'.join(_offered(contract))}"
            )
        named = [target[:2] for target in self._targets if target is not None]
        doubled = sorted({name for name, _ in named if sum(name == other for other, _ in named) > 1})
        if doubled:
            raise _refused(f"列名重复 (columns named twice): {'、'.join(doubled)}")

    def split(self, values: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return (attributes, data). An empty cell is a field not given; raises InvalidError for another width."""
        if len(values) < self._width:
            detail = f"只有 {len(values)} 格，表头有 {self._width} 列：空的也要有逗号 (fewer cells than columns)"
            raise InvalidError([FieldProblem("", detail)])
        if len(values) > len(self.header) and any(values[len(self.header) :]):
            detail = "比表头多出单元格，值里有逗号的要加引号 (more cells than columns; quote what holds a comma)"
            raise InvalidError([FieldProblem("", detail)])
        attributes: dict[str, Any] = {}
        data: dict[str, Any] = {}
        for target, text in zip(self._targets, values, strict=False):
            value = text.strip()
            if target is None or not value:
                continue
            name, is_attribute, convert = target
            (attributes if is_attribute else data)[name] = value if convert is None else convert(value)
        return attributes, data


def _known(contract: EventContract) -> Iterator[tuple[str, Target]]:
    """Give every column that a file of this type may have; a field comes before an attribute of the same name."""
    for name, label in ENVELOPE_COLUMNS.items():
        target = (name, True, _iso if name == "time" else None)
        yield label, target
        yield name, target
    fields = [field for field in contract.fields() if "derived" not in field]
    for field in fields:
        yield label_of(field["doc"]), (field["name"], False, _reading(field))
    for field in fields:
        yield field["name"], (field["name"], False, _reading(field))


def _offered(contract: EventContract) -> list[str]:
    fields = [f"{label_of(f['doc'])} ({f['name']})" for f in contract.fields() if "derived" not in f]
    return [*fields, *(f"{label} ({name})" for name, label in ENVELOPE_COLUMNS.items() if label != name)]


def _reading(field: Schema) -> Convert | None:
    """Return how a cell of a field is read; None where its text is the value."""
    name, kind = field["name"], field["type"]
    if isinstance(kind, list):
        kind = next(branch for branch in kind if branch != "null")
    if nested_record(kind) is not None:
        return lambda text: _json(name, text)
    labels = symbol_labels(field)
    if isinstance(kind, dict) and kind.get("type") == "array":
        return lambda text: [labels.get(part, part) for part in _parts(text)]
    if isinstance(kind, dict) or field.get("format") == "time":
        return _iso
    if kind == "boolean":
        return lambda text: _YES_NO.get(text, text)
    return (lambda text: labels.get(text, text)) if labels else None


def _parts(text: str) -> list[str]:
    return [part.strip() for part in _LIST_SEPARATORS.split(text) if part.strip()]


def _json(name: str, text: str) -> Any:  # noqa: ANN401  (whatever the cell holds)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidError([FieldProblem(f"/data/{name}", f"应为 JSON (JSON is needed): {error}")]) from error


def _iso(text: str) -> str:
    """Return a date as spreadsheets here write it (2025/12/2, 2025年12月2日 9:30) in ISO 8601; other text as it is."""
    if text[4:5] == "-" and text[7:8] == "-":
        return text
    match = _DATE.match(text)
    if match is None:
        return text
    year, month, day, hour, rest = match.groups()
    date = f"{year}-{month:0>2}-{day:0>2}"
    return date if hour is None else f"{date}T{hour:0>2}:{rest}"


def _refused(detail: str) -> InvalidError:
    return InvalidError([FieldProblem("/file", detail)])
