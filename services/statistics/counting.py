"""Counts a metric from the facts: which cells belong to its population, and what they come to.

A population is evaluated once for each cell, and for each set of details that it asks for: never once an event, and
never by other rules than CEL's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

import psycopg

from services.statistics.definition import RECORDED, Metric
from services.statistics.facts import kind_of
from services.statistics.figure import Month
from services.statistics.population import Population, PopulationError, population
from services.statistics.shapes import PSEUDO_DIMENSIONS, Shape, matching
from services.statistics.store import read_sql

_LAST_MONTH = 999912
_AGGREGATES: Mapping[str, str] = {"events": "count", "cases": "count"}


class CellRow(NamedTuple):
    """A cell as it is read: null for each field that it does not have."""

    id: int
    type: str
    source: str
    data: Mapping[str, Any]

    def value(self, dimension: str) -> str:
        """Return the value of a dimension as text; empty where it has none."""
        if dimension in PSEUDO_DIMENSIONS:
            return str(getattr(self, dimension))
        found = self.data.get(dimension)
        if isinstance(found, bool):
            return str(found).lower()
        return "" if found is None else str(found)


@dataclass(frozen=True, slots=True)
class Value:
    """What a metric comes to: exact, or None where there is no value, and how many things stand behind it."""

    exact: int | Decimal | None
    count: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """The cells of a population with the group of each, as JSON; ``parts`` are the details asked for (``fields``)."""

    cells: list[int] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    fields: tuple[str, ...] = ()


NOTHING = Value(0, 0)
NO_VALUE = Value(None, 0)


def nothing(metric: Metric) -> Value:
    """Return what a metric comes to where nothing is counted: a count of nothing is zero, a mean or a rate is none."""
    return NOTHING if metric.count.kind in {"events", "cases", "sum", "distinct"} else NO_VALUE


Group = tuple[str, ...]
Grouping = Callable[[CellRow], Group]
"""Tells a cell's group: the value of each dimension that is asked for."""


def everything(_cell: CellRow) -> Group:
    """Put all cells into one group."""
    return ()


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a population whose dimensions have these values; of none it is the whole."""

    dimensions: Group = ()
    names: Group = ()
    grouping: Grouping = everything

    def holds(self, cell: CellRow) -> bool:
        """Tell whether a cell belongs to it."""
        return self.grouping(cell) == self.names


WHOLE = Part()


class Counter:
    """Counts over one connection, whose snapshot is settled."""

    def __init__(self, connection: psycopg.Connection, shapes: Mapping[str, Shape]) -> None:
        self._connection = connection
        self._shapes = shapes
        self._cells: dict[str, list[CellRow]] = {}
        self._chosen: dict[tuple[str, tuple[str, ...]], list[CellRow]] = {}
        self._parted: tuple[object, list[tuple[CellRow, str]]] = (None, [])

    def values(
        self, metric: Metric, month: Month, grouping: Grouping = everything, by: Sequence[str] = ()
    ) -> dict[Group, Value]:
        """Return what a counted metric comes to in a month, by group; a group without anything is left out.

        ``by`` names the fields that the grouping asks for. Raises PopulationError when the population can't be told of
        an event.
        """
        chosen = self.chosen(metric, month, grouping, by)
        if self._is_fast(metric) and not chosen.fields:
            return self._fast(metric, month, chosen)
        found = self._run(metric, month, chosen, _aggregate(metric))
        return {tuple(json.loads(group)): _value(metric, *rest) for group, *rest in found}

    def chosen(
        self,
        metric: Metric,
        month: Month,
        grouping: Grouping = everything,
        by: Sequence[str] = (),
        part: Part = WHOLE,
    ) -> Chosen:
        """Return the cells of a metric's population, or of a part of it."""
        wanted = population(metric.population)
        asked = tuple(sorted({*wanted.fields(), *by, *part.dimensions} & self._details(metric)))
        pairs = self._with_parts(metric, month, wanted, asked) if asked else self._whole(metric, wanted)
        found = Chosen(fields=asked)
        for cell, said in pairs:
            if not part.holds(cell):
                continue
            found.cells.append(cell.id)
            found.parts.append(said)
            found.groups.append(json.dumps(grouping(cell), ensure_ascii=False))
        return found

    def run(
        self, metric: Metric, month: Month, aggregate: str, part: Part = WHOLE, **more: object
    ) -> list[tuple[Any, ...]]:
        """Return what an aggregate over the counted facts gives: a statement over ``counted``."""
        return self._run(metric, month, self.chosen(metric, month, part=part), read_sql(aggregate).decode(), **more)

    def digest(self, metric: Metric, month: Month, part: Part = WHOLE) -> str:
        """Return the digest over the events of a metric that is counted by cells alone."""
        first, last = span(metric, month)
        values: dict[str, object] = {"first": first.number, "last": last.number}
        values["cells"] = self.chosen(metric, month, part=part).cells
        ((found,),) = self._by_cells("fast_digest", metric, values)
        return bytes(found).hex()

    def sample(self, metric: Metric, month: Month, limit: int, part: Part = WHOLE) -> tuple[int, list[tuple[Any, ...]]]:
        """Return how many of a month's events are marked, and the first events (see ``lineage_sample``).

        Of a metric that is counted by cells alone. The first events lie in the cells that begin first.
        """
        cells = self.chosen(metric, month, part=part).cells
        values: dict[str, object] = {"month": month.number, "cells": cells, "limit": limit}
        early = self._by_cells("fast_first", metric, values)
        if not early:
            return 0, []
        # Of fewer cells than events are wanted, every event may be among them.
        last = early[-1][1] if len(early) >= limit else month.bounds[1]
        values |= {"cells": [cell for cell, _, _ in early], "last": last, "kinds": _kinds(self._types(metric))}
        return int(early[0][2]), self._by_cells("fast_sample", metric, values)

    def since(self, metric: Metric, month: Month, **more: object) -> list[tuple[Any, ...]]:
        """Return the events that a metric counts now and did not at some positions, or the reverse (``then.sql``)."""
        chosen = self.chosen(metric, month)
        part = read_sql("part_agrees").decode() if chosen.fields else ""
        skipped = "true" if metric.count.kind == "events" else "false"
        judged = read_sql("then_as_of" if metric.period == "as_of" else "then_period").decode().rstrip()
        statement = read_sql("then").decode().replace("{judged}", judged)
        statement = statement.replace("{part}", part).replace("{each}", skipped)
        values = self._parameters(metric, month, chosen) | more
        return self._connection.execute(statement.encode(), values).fetchall()

    def is_fast(self, metric: Metric, part: Part = WHOLE) -> bool:
        """Tell whether the cells of the months are enough to count it, or a part of it."""
        return self._is_fast(metric) and not set(part.dimensions) & self._details(metric)

    def _types(self, metric: Metric) -> list[str]:
        return matching(metric.types, self._shapes)

    def _details(self, metric: Metric) -> frozenset[str]:
        return frozenset(name for kind in self._types(metric) for name in self._shapes[kind].details)

    def _whole(self, metric: Metric, wanted: Population) -> Iterator[tuple[CellRow, str]]:
        key = (metric.population, metric.types)
        if key not in self._chosen:
            cells = [cell for kind in self._types(metric) for cell in self._cells_of(kind)]
            self._chosen[key] = [c for c in cells if _holds(metric, wanted, c, c.data)]
        return ((cell, "{}") for cell in self._chosen[key])

    def _with_parts(
        self, metric: Metric, month: Month, wanted: Population, asked: Sequence[str]
    ) -> Iterable[tuple[CellRow, str]]:
        """Return the cells with each set of details; a metric broken down time and again finds the last ones."""
        key = (metric.population, metric.types, metric.period, metric.time, month, tuple(asked))
        if self._parted[0] != key:
            self._parted = (key, list(self._find_parts(metric, month, wanted, asked)))
        return self._parted[1]

    def _find_parts(
        self, metric: Metric, month: Month, wanted: Population, asked: Sequence[str]
    ) -> Iterator[tuple[CellRow, str]]:
        cells = {cell.id: cell for kind in self._types(metric) for cell in self._cells_of(kind)}
        first = 0 if metric.period == "as_of" or metric.time == RECORDED else span(metric, month)[0].number
        last = month.number if metric.time != RECORDED else _LAST_MONTH
        values = {
            "fields": list(asked),
            "first": first,
            "last": last,
            "kinds": _kinds(self._types(metric)),
            "cells": list(cells),
        }
        for number, part in self._connection.execute(read_sql("parts"), values):
            cell = cells[number]
            told = cell._replace(data={**cell.data, **part})
            if _holds(metric, wanted, told, told.data):
                yield told, json.dumps(part, ensure_ascii=False)

    def _cells_of(self, kind: str) -> list[CellRow]:
        if kind not in self._cells:
            empty = dict.fromkeys(self._shapes[kind].fields())
            rows = self._connection.execute(read_sql("cells_of"), ([kind],))
            self._cells[kind] = [CellRow(i, kind, source, {**empty, **data}) for i, _, source, data in rows]
        return self._cells[kind]

    def _is_fast(self, metric: Metric) -> bool:
        asked = population(metric.population).fields() & self._details(metric)
        counted = metric.count.kind in _AGGREGATES and metric.time != RECORDED
        return counted and not asked and metric.period != "as_of"

    def _fast(self, metric: Metric, month: Month, chosen: Chosen) -> dict[Group, Value]:
        first, last = span(metric, month)
        values = {"first": first.number, "last": last.number, "cells": chosen.cells}
        counts: dict[int, int] = dict(self._by_cells("fast", metric, values))
        found: dict[str, int] = {}
        for cell, group in zip(chosen.cells, chosen.groups, strict=True):
            if counts.get(cell):
                found[group] = found.get(group, 0) + counts[cell]
        return {tuple(json.loads(group)): Value(count, count) for group, count in found.items()}

    def _by_cells(self, name: str, metric: Metric, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        statement = read_sql(name).decode().replace("{counted}", metric.count.kind)
        return self._connection.execute(statement.replace("{skipped}", _skipped(metric)).encode(), values).fetchall()

    def _run(
        self, metric: Metric, month: Month, chosen: Chosen, aggregate: str, **more: object
    ) -> list[tuple[Any, ...]]:
        statement = read_sql("chosen").decode().replace("{counted}", _counted(metric, chosen))
        statement = statement.replace("{aggregate}", aggregate)
        values = self._parameters(metric, month, chosen) | more
        return self._connection.execute(statement.encode(), values).fetchall()

    def _parameters(self, metric: Metric, month: Month, chosen: Chosen) -> dict[str, object]:
        first, last = span(metric, month)
        counting = metric.count
        return {
            "cells": chosen.cells,
            "parts": chosen.parts,
            "groups": chosen.groups,
            "fields": list(chosen.fields),
            "first": first.number,
            "last": last.number,
            "from": first.bounds[0],
            "to": last.bounds[1],
            "kinds": _kinds(self._types(metric)),
            "ended": _kinds(matching(metric.ended_by, self._shapes)),
            "field": counting.field,
            "once_per": counting.once_per,
            "legal": counting.legal,
            "actual": counting.actual,
            "percentile": counting.percentile,
        }


def span(metric: Metric, month: Month) -> tuple[Month, Month]:
    """Return the first and the last month of a metric's period."""
    return (Month(month.year, 1) if metric.period == "year_to_date" else month), month


def _kinds(types: Sequence[str]) -> list[int]:
    return [kind_of(one) for one in types]


def _holds(metric: Metric, wanted: Population, cell: CellRow, data: Mapping[str, Any]) -> bool:
    try:
        return wanted.holds(cell.type, cell.source, data)
    except PopulationError as error:
        raise PopulationError(f"{metric.id}: {error}: {json.dumps(data, ensure_ascii=False)}") from error


def _counted(metric: Metric, chosen: Chosen) -> str:
    if metric.period == "as_of":
        name = "counted_as_of"
    else:
        name = "counted_recorded" if metric.time == RECORDED else "counted_period"
    part = read_sql("part_agrees").decode() if chosen.fields else ""
    return read_sql(name).decode().replace("{part}", part).replace("{skipped}", _skipped(metric))


def _skipped(metric: Metric) -> str:
    return "void" if metric.count.kind == "events" else "aside"


def _aggregate(metric: Metric) -> str:
    counting = metric.count
    name = _AGGREGATES.get(counting.kind, counting.kind)
    if counting.once_per:
        name = "sum_once"
    if counting.weighting:
        name = f"speedup_{counting.weighting}"
    return read_sql(f"aggregate_{name}").decode()


def _value(metric: Metric, top: Decimal | None, bottom: Decimal | None, count: int) -> Value:
    if top is None:
        return Value(None, count)
    if bottom is not None:
        return Value(top / metric.count.divide_by / bottom if bottom else None, count)
    exact = top / metric.count.divide_by
    return Value(int(exact) if exact == exact.to_integral_value() else exact, count)
