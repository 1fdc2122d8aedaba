"""Reads figures: all of one moment, settled up to it, and of a closed month as they were when it was closed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from functools import cached_property

import psycopg

from services.runtime.errors import FieldProblem, InvalidError
from services.runtime.positions import PartitionKey, read_positions
from services.statistics.counting import CellRow, Counter, Grouping, Value, everything
from services.statistics.definition import Metric
from services.statistics.departments import DEPARTMENT, Units, label_of
from services.statistics.figure import Figure, Month, figure_of
from services.statistics.frozen import Frozen
from services.statistics.loading import Metrics
from services.statistics.settling import settled
from services.statistics.shapes import Shape
from services.statistics.store import SCHEMA, read_sql

MONTHS_BACK: Mapping[str, int] = {"previous_month": 1, "same_month_last_year": 12}
NOTHING = Value(0, 0)


class FigureReader:
    """Answers figures (:class:`services.statistics.figure.Figures`) over one snapshot."""

    def __init__(
        self, connection: psycopg.Connection, consumer: str, metrics: Metrics, shapes: Mapping[str, Shape]
    ) -> None:
        self._connection = connection
        self._consumer = consumer
        self.metrics = metrics
        self.counter = Counter(connection, shapes)
        self.frozen = Frozen(connection)
        self.frozen.check_unchanged(metrics)
        self.units = Units.load(connection)

    def metric(self, metric_id: str, month: str) -> Metric:
        """Return the definition that holds for a month (the frozen one where the month is closed)."""
        frozen = self.frozen.definition(metric_id, Month.parse(month).number)
        return frozen or self.metrics.of(metric_id, month)

    def figure(
        self, metric_id: str, month: str, dimensions: Mapping[str, str] | None = None, *, now: bool = False
    ) -> Figure:
        """Return one figure; ``now`` asks for it as now known, also of a closed month."""
        metric, at, where = self.metric(metric_id, month), Month.parse(month), dict(dimensions or {})
        _check_dimensions(metric, where)
        if not now:
            kept = self.frozen.value(metric_id, at.number, where)
            if kept is not None:
                return figure_of(metric, at, kept.exact, kept.count, where, "closed")
        published = None if where else self.published(metric_id, at)
        if published is not None:
            return figure_of(metric, at, published, 0, where, "published")
        value = self.value(metric, at, where)
        return figure_of(metric, at, value.exact, value.count, where)

    def breakdown(
        self, metric_id: str, month: str, dimension: str, top: int | None = None, *, now: bool = False
    ) -> list[Figure]:
        """Return the figure of each value of a dimension, the largest first; ``top`` limits how many."""
        metric, at = self.metric(metric_id, month), Month.parse(month)
        _check_dimensions(metric, {dimension: ""})
        kept = None if now else self.frozen.values(metric_id, at.number, dimension)
        values = kept if kept is not None else self.grouped(metric, at, dimension)
        found = [
            figure_of(metric, at, value.exact, value.count, {dimension: name}, "log" if kept is None else "closed")
            for name, value in values.items()
        ]
        found.sort(
            key=lambda one: (-(one.exact if one.exact is not None else Decimal("-Infinity")), *one.dimensions.values())
        )
        return found[:top]

    def series(self, metric_id: str, month: str, months: int = 12) -> list[Figure]:
        """Return the figures of so many months up to this one, the earliest first; imported aggregates are marked."""
        at = Month.parse(month)
        return [self.figure(metric_id, str(at.back(n))) for n in reversed(range(months))]

    def label(self, dimension: str, value: str, month: str) -> str:
        """Return what people call a dimension's value: a department's or a division's name."""
        names = self._names if dimension.endswith("_code") else {}
        return label_of(dimension, value, {**names, **self.units.names(Month.parse(month).number)})

    def value(self, metric: Metric, month: Month, where: Mapping[str, str]) -> Value:
        """Return what a metric comes to as now known."""
        if metric.count.derived:
            return self._derived(metric, month, where)
        grouping = self._only(where, month) if where else everything
        return self.counter.values(metric, month, grouping, list(where)).get("", NOTHING)

    def grouped(self, metric: Metric, month: Month, dimension: str) -> dict[str, Value]:
        """Return what a metric comes to as now known, by the values of a dimension."""
        if not metric.count.derived:
            return self.counter.values(metric, month, lambda cell: self._told(cell, dimension, month), [dimension])
        names = [name for other in metric.count.metrics for name in self._parts(other, month, dimension)]
        return {name: self._derived(metric, month, {dimension: name}) for name in sorted(set(names))}

    def published(self, metric_id: str, month: Month) -> Decimal | int | None:
        """Return the imported aggregate of a month, where there are no events of it."""
        exact = self.frozen.history.get((metric_id, month.number))
        return None if exact is None or self.events(month) else exact

    def events(self, month: Month) -> int:
        """Return how many valid events lie in a month."""
        return self._months.get(month.number, 0)

    def positions(self) -> dict[PartitionKey, int]:
        """Return up to where each partition is counted (the next offset)."""
        return read_positions(self._connection, self._consumer)

    def _parts(self, metric_id: str, month: Month, dimension: str) -> Mapping[str, Value]:
        return self.grouped(self.metric(metric_id, str(month)), month, dimension)

    def _derived(self, metric: Metric, month: Month, where: Mapping[str, str]) -> Value:
        counting = metric.count
        first = self._of(counting.metrics[0], month, where)
        match counting.kind:
            case "change":
                before = self._of(counting.metrics[0], month.back(MONTHS_BACK[counting.against or ""]), where)
                difference = None if None in {first.exact, before.exact} else _number(first) - _number(before)
                return Value(_divided(difference, before.exact), first.count)
            case "share":
                whole = {name: value for name, value in where.items() if name != counting.along}
                return Value(_divided(first.exact, self._of(counting.metrics[0], month, whole).exact), first.count)
            case _:
                return Value(_divided(first.exact, self._of(counting.metrics[1], month, where).exact), first.count)

    def _of(self, metric_id: str, month: Month, where: Mapping[str, str]) -> Value:
        published = None if where else self.published(metric_id, month)
        if published is not None:
            return Value(published, 0)
        return self.value(self.metric(metric_id, str(month)), month, where)

    def _only(self, where: Mapping[str, str], month: Month) -> Grouping:
        def grouping(cell: CellRow) -> str | None:
            return "" if all(self._told(cell, name, month) == value for name, value in where.items()) else None

        return grouping

    def _told(self, cell: CellRow, dimension: str, month: Month) -> str:
        """Return a cell's value as it is told in a month: a merged department as its unit."""
        value = cell.value(dimension)
        return self.units.unit(value, month.number) if dimension == DEPARTMENT else value

    @cached_property
    def _months(self) -> Mapping[int, int]:
        return dict(self._connection.execute(read_sql("month_events")).fetchall())

    @cached_property
    def _names(self) -> Mapping[str, str]:
        return dict(self._connection.execute(read_sql("names")).fetchall())


def _number(value: Value) -> Decimal:
    return Decimal(value.exact or 0)


def _divided(top: Decimal | int | None, bottom: Decimal | int | None) -> Decimal | None:
    return Decimal(top) / Decimal(bottom) if top is not None and bottom else None


def _check_dimensions(metric: Metric, where: Mapping[str, str]) -> None:
    known = ", ".join(metric.dimensions) or "—"
    problems = [
        FieldProblem(f"/dimensions/{name}", f"{metric.id} 没有这个维度 (no such dimension); 有 (there are): {known}")
        for name in where
        if name not in metric.dimensions
    ]
    if problems:
        raise InvalidError(problems)


@contextmanager
def figures(
    dsn: str, consumer: str, metrics: Metrics, shapes: Mapping[str, Shape], schema: str = SCHEMA
) -> Iterator[FigureReader]:
    """Give a reader of what this consumer counted, all on one snapshot; raises DatabaseUnavailableError.

    What is stored and not yet settled is settled first, within the same snapshot.
    """
    with settled(dsn, schema) as connection:
        yield FigureReader(connection, consumer, metrics, shapes)
