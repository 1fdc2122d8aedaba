"""The dry run: the first rows as the events that they would become. Only the department's database is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.table import Column
from rich.text import Text

from producers.poller.deciding import Known, key_text
from producers.poller.journal import Json
from producers.poller.process import Parts
from producers.poller.table import Row, Span
from schemas.codec import to_jsonable
from schemas.contracts import Schema
from services.runtime.terminal import Table, plain


class Unregistered:
    """Stands in for the registry: a dry run registers nothing."""

    def id_of(self, _subject: str, _schema: Schema) -> int:
        """Return an id that no schema has."""
        return 0

    def schema_by_id(self, schema_id: int) -> Schema:
        """Nothing is decoded in a dry run."""
        raise LookupError(schema_id)


@dataclass(frozen=True, slots=True)
class Previewed:
    """One row: its key, and either the event's attributes and data, or the columns and what is wrong, by field."""

    key: str
    attributes: Mapping[str, str]
    data: Mapping[str, Any]
    problems: Sequence[Json]

    def to_json(self) -> Json:
        """Return it as JSON values."""
        data = to_jsonable(self.data)
        return {"key": self.key, "attributes": self.attributes, "data": data, "problems": self.problems}


def preview(parts: Parts, rows: int, now: datetime) -> list[Previewed]:
    """Return the first rows as the poller would first meet them; raises UnavailableError."""
    with parts.table.session() as table:
        page = table.page(Span(), rows)
        page += table.without_cursor(rows - len(page)) if len(page) < rows else []
    return [_previewed(parts, row, now) for row in page]


def _previewed(parts: Parts, row: Row, now: datetime) -> Previewed:
    decided = parts.decider.page([row], Known({}, {}), now)
    key = key_text(row)
    rejected = decided.changes.rejects.get(key)
    if rejected is not None:
        columns = {n: row.columns[v.column.lower()] for n, v in parts.mapping.fields.items() if v.column is not None}
        return Previewed(key, {}, columns, rejected["problems"])
    (event,) = decided.events
    return Previewed(key, event.attributes, parts.mapper.row(row.columns).data, ())


def as_table(parts: Parts, previewed: Sequence[Previewed]) -> Table:
    """Return fields as lines and rows as columns, so that a type of thirty fields can be read."""
    shown = Table(
        Column("字段 (field)", no_wrap=True),
        Column("来自 (from)"),
        *(Column(one.key, overflow="fold") for one in previewed),
        title=f"{parts.mapping.name} → {parts.mapping.type}",
    )
    for name in ("id", "subject", "time", "quality"):
        shown.add_row(f"ce {name}", "", *(one.attributes.get(name, "") for one in previewed))
    for name, value in parts.mapping.fields.items():
        origin = value.column or "常量 (constant)"
        shown.add_row(name, origin, *(_cell(one, name) for one in previewed))
    others = [[p for p in one.problems if p["field"].split("/")[-1] not in parts.mapping.fields] for one in previewed]
    if any(others):
        shown.add_row(
            "其他 (other)", "", *(_problems(f"{p['field']}: {p['problem']}" for p in some) for some in others)
        )
    return shown


def _cell(one: Previewed, name: str) -> Text | str:
    wrong = [p for p in one.problems if f"{p['field']}/".startswith(f"/data/{name}/")]
    if wrong:
        return _problems(p["problem"] for p in wrong)
    found = to_jsonable(one.data).get(name)
    return "" if found is None else str(found)


def _problems(said: Iterable[str]) -> Text:
    return plain("\n".join(f"✗ {one}" for one in said), "red")
