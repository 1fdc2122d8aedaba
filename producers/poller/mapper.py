"""From a row to an event: pure, and the same for the same row at every look."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, Literal

import orjson

from producers.poller.mapping import Fields, FollowUp, TableMapping, Value
from producers.poller.values import plain
from schemas.contracts import Contracts, EventContract
from schemas.tracing import PARENT, STATE
from services.runtime.errors import FieldProblem, InvalidError

Kind = Literal["time", "date", "text", "list", "other"]
Row = Mapping[str, Any]
"""A row's columns in lower case, as plain JSON."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """An event's data and attributes, as far as a row tells."""

    type: str
    data: Mapping[str, Any]
    attributes: Mapping[str, str]

    def digest(self) -> str:
        """Return what stands for this state of the row; raises InvalidError for what JSON can't hold."""
        try:
            said = {name: text for name, text in self.attributes.items() if name not in {PARENT, STATE}}
            content = orjson.dumps([self.data, said], option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError as error:
            raise InvalidError([FieldProblem("/data", f"不能写成 JSON (can't be written as JSON): {error}")]) from error
        return blake2b(content, digest_size=16).hexdigest()


def event_id(event_type: str, source: str, key: str, digest: str, number: int) -> str:
    """Return the id of a row's event: the same for the same state of the same row.

    ``number`` counts the row's events before this one: a row that returns to an earlier state is told of again.
    """
    parts = (event_type, source, key, digest, str(number))
    return blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


class Mapper:
    """Maps rows by a mapping that was checked."""

    def __init__(self, mapping: TableMapping, contracts: Contracts) -> None:
        self._mapping = mapping
        self._zone = mapping.zone
        self._contracts = contracts
        self._kinds: dict[str, dict[str, Kind]] = {}

    def row(self, row: Row) -> Mapped:
        """Return the event of a row as it stands; raises InvalidError that names field, column and value."""
        problems: list[FieldProblem] = []
        read = self._reader(row, {}, None)
        data = self._fields(self._mapping.type, self._mapping.fields, read, problems)
        attributes: dict[str, str] = {}
        for name, value in self._mapping.attributes.items():
            found = self._one(f"/{name}", value, "time" if name == "time" else "text", read, problems)
            if found is not None:
                attributes[name] = str(found)
        if problems:
            raise InvalidError(problems)
        return Mapped(self._mapping.type, data, attributes)

    def follow_up(self, what: FollowUp, base: Mapping[str, Any], row: Row, now: datetime) -> Mapped:
        """Return the event of a row that has changed, or with no row of one that is gone; raises InvalidError."""
        problems: list[FieldProblem] = []
        names = self._kinds_of(what.type)
        data = {name: value for name, value in base.items() if name in names}
        data |= self._fields(what.type, what.fields, self._reader(row, base, now), problems)
        if problems:
            raise InvalidError(problems)
        return Mapped(what.type, data, {})

    def column_of(self, pointer: str) -> str | None:
        """Return the column that a field of a problem came from."""
        name = pointer.removeprefix("/data").split("/")[1]
        changed = self._mapping.changed.fields if isinstance(self._mapping.changed, FollowUp) else {}
        value = changed.get(name) or self._mapping.fields.get(name)
        return value.column if value is not None else None

    def _fields(
        self, event_type: str, fields: Fields, read: Callable[[Value], Any], problems: list[FieldProblem]
    ) -> dict[str, Any]:
        kinds = self._kinds_of(event_type)
        found = {n: self._one(f"/data/{n}", value, kinds[n], read, problems) for n, value in fields.items()}
        return {name: value for name, value in found.items() if value is not None}

    def _reader(self, row: Row, base: Mapping[str, Any], now: datetime | None) -> Callable[[Value], Any]:
        def read(value: Value) -> Any:  # noqa: ANN401  (JSON)
            if value.column is not None:
                return row[value.column.lower()]
            if value.field is not None:
                return base.get(value.field)
            if value.now is not None and now is not None:
                local = now.astimezone(self._zone)
                return (local.date() if value.now == "date" else local).isoformat()
            return plain(value.const)

        return read

    def _one(
        self, place: str, value: Value, kind: Kind, read: Callable[[Value], Any], problems: list[FieldProblem]
    ) -> Any:  # noqa: ANN401  (JSON)
        found = read(value)
        try:
            return self._converted(found, value, kind)
        except (ValueError, OverflowError) as error:
            named = f"列 {value.column} 的值 {found!r}：" if value.column is not None else ""
            problems.append(FieldProblem(place, f"{named}{error}"))
            return None

    def _converted(self, found: Any, value: Value, kind: Kind) -> Any:  # noqa: ANN401  (JSON)
        if isinstance(found, str):
            found = found.strip()
        if found is None or found == "":
            return plain(value.default)
        if value.json_text and isinstance(found, str):
            return orjson.loads(found)
        if value.split is not None:
            found = [part.strip() for part in str(found).split(value.split) if part.strip()]
        if isinstance(found, list):
            return [self._coded(part, value) for part in found]
        found = self._coded(found, value)
        if value.format is not None:
            found = datetime.strptime(str(found), value.format).isoformat()
        if kind in {"time", "date"} and isinstance(found, str):
            return self._moment(found, kind)
        return str(found) if kind == "text" and not isinstance(found, dict) else found

    def _coded(self, found: Any, value: Value) -> Any:  # noqa: ANN401  (JSON)
        codes = self._mapping.code_table(value)
        if codes is None:
            return found
        if str(found) in codes:
            return plain(codes[str(found)])
        if "*" in codes:
            return plain(codes["*"])
        raise ValueError(f"代码表里没有 (no such code); 有 (known): {', '.join(codes)}")

    def _moment(self, text: str, kind: Kind) -> str:
        """Return a time with its offset, or a date in the mapping's zone. What is neither is told by validation."""
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return text
        if kind == "date":
            return (moment.astimezone(self._zone) if moment.tzinfo else moment).date().isoformat()
        return (moment if moment.tzinfo else moment.replace(tzinfo=self._zone)).isoformat()

    def _kinds_of(self, event_type: str) -> dict[str, Kind]:
        found = self._kinds.get(event_type)
        if found is None:
            found = self._kinds[event_type] = _kinds(self._contracts.types[event_type])
        return found


def _kinds(contract: EventContract) -> dict[str, Kind]:
    return {f["name"]: _kind(f["type"]) for f in contract.fields() if "derived" not in f}


def _kind(avro: Any) -> Kind:  # noqa: ANN401  (an Avro type is text, a list or an object)
    if isinstance(avro, list):
        return _kind(next(branch for branch in avro if branch != "null"))
    if isinstance(avro, dict):
        logical = {"timestamp-millis": "time", "date": "date"}.get(avro.get("logicalType", ""))
        if logical is not None:
            return "time" if logical == "time" else "date"
        return "list" if avro["type"] == "array" else "other"
    return "text" if avro == "string" else "other"
