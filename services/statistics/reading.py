"""Reads figures: all of one moment, settled up to it, and of a closed month as they were when it was closed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import cached_property

import psycopg

from services.runtime.database import Connections
from services.runtime.errors import FieldProblem, InvalidError
from services.runtime.positions import PartitionKey, read_positions
from services.statistics.balance import Balance, balances, moved_cases
from services.statistics.counting import (
    NO_VALUE,
    WHOLE,
    CellRow,
    Counter,
    Group,
    Grouping,
    Part,
    Value,
    everything,
    nothing,
    span,
)
from services.statistics.definition import Metric
from services.statistics.departments import DEPARTMENT, Units, label_of
from services.statistics.figure import Basis, Figure, Month, figure_of
from services.statistics.frozen import Frozen
from services.statistics.gaps import Gap, gaps, log_starts
from services.statistics.loading import Metrics
from services.statistics.settling import settled
from services.statistics.shapes import DELIVERY, Shape
from services.statistics.store import SCHEMA, read_sql

MONTHS_BACK: Mapping[str, int] = {"previous_month": 1, "same_month_last_year": 12}


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
        self,
        metric_id: str,
        month: str,
        dimension: str,
        top: int | None = None,
        *,
        where: Mapping[str, str] | None = None,
        now: bool = False,
    ) -> list[Figure]:
        """Return the figure of each value of a dimension, the largest first; ``top`` limits how many.

        ``where`` holds other dimensions to one value each.
        """
        metric, at, held = self.metric(metric_id, month), Month.parse(month), dict(where or {})
        _check_dimensions(metric, {**held, dimension: ""})
        dimensions = (dimension, *held)
        kept = None if now else self.frozen.values(metric_id, at.number, dimensions)
        values = kept if kept is not None else self.grouped(metric, at, dimensions)
        basis: Basis = "log" if kept is None else "closed"
        found = [
            figure_of(metric, at, value.exact, value.count, {dimension: name, **held}, basis)
            for (name, *rest), value in values.items()
            if rest == list(held.values())
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
        """Return what a metric comes to as now known; no value where that can't be counted any more."""
        found = self.grouped(metric, month, tuple(where)).get(tuple(where.values()))
        return found or self._nothing(metric, month)

    def grouped(self, metric: Metric, month: Month, dimensions: Group) -> dict[Group, Value]:
        """Return what a metric comes to as now known, by the values of some dimensions."""
        if metric.count.derived:
            return self._derived(metric, month, dimensions)
        if self.lacking(metric, month):
            return {}
        return self.counter.values(metric, month, self._grouping(dimensions, month), dimensions)

    @cached_property
    def gaps(self) -> Sequence[Gap]:
        """Return which records of closed months can't be counted from the log any more."""
        return gaps(self.frozen, self.starts)

    @cached_property
    def starts(self) -> Mapping[PartitionKey, int]:
        """Return from which offset on each log is counted."""
        return log_starts(self._connection, self._consumer)

    def lacking(self, metric: Metric, month: Month) -> list[Gap]:
        """Return what a figure lacks: records of its month, or of a month that it adds up or that came before."""
        first = 0 if metric.period == "as_of" else span(metric, month)[0].number
        return [gap for gap in self.gaps if first <= gap.month <= month.number]

    def published(self, metric_id: str, month: Month) -> Decimal | int | None:
        """Return the imported aggregate of a month, where there are no events of it."""
        exact = self.frozen.history.get((metric_id, month.number))
        return None if exact is None or self.events(month) else exact

    def months(self) -> list[Month]:
        """Return the months that have events, a decision or a published figure, the newest first."""
        known = {*self._months, *self.frozen.decisions, *(month for _, month in self.frozen.history)}
        return [Month.of_number(number) for number in sorted(known, reverse=True)]

    def events(self, month: Month) -> int:
        """Return how many valid events lie in a month; what became of them at agencies is not among them."""
        return self._months.get(month.number, (0, 0))[0]

    def deliveries(self, month: Month) -> int:
        """Return how many receipts of events at agencies lie in a month: delivered, acknowledged or parked."""
        return self._months.get(month.number, (0, 0))[1]

    def balances(self, month: Month) -> list[Balance]:
        """Return every department's balance of a month as now known."""
        return balances(self._connection, self.units, month)

    def moved_cases(self, month: Month) -> Sequence[str]:
        """Return a few of the cases for which a balance of the month may fail."""
        return moved_cases(self._connection, self.units, month)

    def positions(self) -> dict[PartitionKey, int]:
        """Return up to where each partition is counted (the next offset)."""
        return read_positions(self._connection, self._consumer)

    def _derived(self, metric: Metric, month: Month, dimensions: Group) -> dict[Group, Value]:
        """Divide one metric's figures by another's, by those of an earlier month or by the whole along a dimension."""
        counting = metric.count
        names = [*counting.metrics, counting.metrics[0]][:2]
        at, under = month, dimensions
        if counting.kind == "change":
            at = month.back(MONTHS_BACK[counting.against or ""])
        elif counting.kind == "share":
            under = tuple(name for name in dimensions if name != counting.along)
        tops, bottoms = self._parts(names[0], month, dimensions), self._parts(names[1], at, under)
        groups = {*tops, *(bottoms if counting.kind == "ratio" else ())} if dimensions else {()}
        none = self._nothing(self.metric(names[0], str(month)), month)
        below = self._nothing(self.metric(names[1], str(at)), at)
        kept = [n for n, name in enumerate(dimensions) if name in under]
        found = {}
        for group in groups:
            top, bottom = tops.get(group, none), bottoms.get(tuple(group[n] for n in kept), below)
            over: Decimal | int | None = top.exact
            if counting.kind == "change":
                over = None if None in {top.exact, bottom.exact} else _number(top) - _number(bottom)
            found[group] = Value(_divided(over, bottom.exact), top.count)
        return found

    def _parts(self, metric_id: str, month: Month, dimensions: Group) -> Mapping[Group, Value]:
        """Return what a metric that others are computed from comes to; as published where that is all there is."""
        published = None if dimensions else self.published(metric_id, month)
        if published is not None:
            return {(): Value(published, 0)}
        metric = self.metric(metric_id, str(month))
        kept = self.frozen.values(metric_id, month.number, dimensions) if self.lacking(metric, month) else None
        return self.grouped(metric, month, dimensions) if kept is None else kept

    def _nothing(self, metric: Metric, month: Month) -> Value:
        return NO_VALUE if self.lacking(metric, month) else nothing(metric)

    def part(self, month: Month, where: Mapping[str, str]) -> Part:
        """Return the part of a population whose dimensions have these values in a month."""
        dimensions = tuple(where)
        return Part(dimensions, tuple(where.values()), self._grouping(dimensions, month)) if where else WHOLE

    def _grouping(self, dimensions: Group, month: Month) -> Grouping:
        def grouping(cell: CellRow) -> Group:
            return tuple(self._told(cell, name, month) for name in dimensions)

        return grouping if dimensions else everything

    def _told(self, cell: CellRow, dimension: str, month: Month) -> str:
        """Return a cell's value as it is told in a month: a merged department as its unit."""
        value = cell.value(dimension)
        return self.units.unit(value, month.number) if dimension == DEPARTMENT else value

    @cached_property
    def _months(self) -> Mapping[int, tuple[int, int]]:
        rows = self._connection.execute(read_sql("month_events"), {"delivery": DELIVERY}).fetchall()
        return {month: (events, deliveries) for month, events, deliveries in rows}

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
    dsn: str,
    consumer: str,
    metrics: Metrics,
    shapes: Mapping[str, Shape],
    schema: str = SCHEMA,
    connections: Connections | None = None,
) -> Iterator[FigureReader]:
    """Give a reader of what this consumer counted, all on one snapshot; raises DatabaseUnavailableError.

    What is stored and not yet settled is settled first, within the same snapshot.
    """
    with settled(dsn, schema, connections) as connection:
        yield FigureReader(connection, consumer, metrics, shapes)
