"""Freezes a month: every figure of every definition, whole and along each dimension, with a digest over it all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from services.statistics.counting import Value
from services.statistics.definition import Metric
from services.statistics.figure import Month
from services.statistics.lineage import events_digest
from services.statistics.reading import FigureReader


@dataclass(frozen=True, slots=True)
class FrozenFigure:
    """One figure as it is kept. An empty dimension is the whole figure; only that has a digest of its events."""

    metric: Metric
    dimension: str
    name: str
    value: Value
    events_digest: str | None = None

    def line(self) -> str:
        """Return it as a line of what is digested."""
        parts = (self.metric.id, self.metric.version, self.metric.digest, self.dimension, self.name)
        return "\t".join(map(str, (*parts, plain(self.value.exact), self.value.count, self.events_digest)))


def freeze(reader: FigureReader, month: Month, metrics: Iterable[Metric]) -> list[FrozenFigure]:
    """Return every figure of these definitions as now known."""
    return [figure for metric in metrics for figure in _of(reader, month, metric)]


def _of(reader: FigureReader, month: Month, metric: Metric) -> Iterable[FrozenFigure]:
    digest = None if metric.count.derived else events_digest(reader, metric, month)
    yield FrozenFigure(metric, "", "", reader.value(metric, month, {}), digest)
    for dimension in metric.dimensions:
        for name, value in sorted(reader.grouped(metric, month, dimension).items()):
            yield FrozenFigure(metric, dimension, name, value)


def digest_of(month: Month, figures: Sequence[FrozenFigure]) -> str:
    """Return what stands for a frozen month: a digest over its figures, definitions and events."""
    lines = [str(month), *sorted(figure.line() for figure in figures)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def plain(exact: int | Decimal | None) -> str | None:
    """Return an exact value as text, in one way only."""
    if exact is None:
        return None
    return str(exact) if isinstance(exact, int) else f"{exact.normalize():f}"
