"""Freezes a month: every figure of every definition, whole, along each dimension and along each two, with a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations

from services.statistics.counting import Group, Value
from services.statistics.definition import Metric
from services.statistics.figure import Month
from services.statistics.lineage import events_digest
from services.statistics.reading import FigureReader


@dataclass(frozen=True, slots=True)
class FrozenFigure:
    """One figure as it is kept. No dimension is the whole figure; only that has a digest of its events."""

    metric: Metric
    dimensions: Group
    names: Group
    value: Value
    events_digest: str | None = None

    def line(self) -> str:
        """Return it as a line of what is digested."""
        pairs = zip(self.dimensions, self.names, strict=True)
        where = [text for pair in pairs for text in pair] or ["", ""]
        parts = (self.metric.id, self.metric.version, self.metric.digest, *where)
        return "\t".join(map(str, (*parts, plain(self.value.exact), self.value.count, self.events_digest)))


def freeze(
    reader: FigureReader, month: Month, metrics: Iterable[Metric], *, crossed: bool = True
) -> list[FrozenFigure]:
    """Return every figure of these definitions as now known; ``crossed``: by each two of their dimensions too."""
    return [figure for metric in metrics for figure in _of(reader, month, metric, 2 if crossed else 1)]


def _of(reader: FigureReader, month: Month, metric: Metric, most: int) -> Iterable[FrozenFigure]:
    digest = None if metric.count.derived else events_digest(reader, metric, month)
    yield FrozenFigure(metric, (), (), reader.value(metric, month, {}), digest)
    for size in range(1, most + 1):
        for dimensions in combinations(metric.dimensions, size):
            for names, value in sorted(reader.grouped(metric, month, dimensions).items()):
                yield FrozenFigure(metric, dimensions, names, value)


def digest_of(month: Month, figures: Sequence[FrozenFigure]) -> str:
    """Return what stands for a frozen month: a digest over its figures, definitions and events."""
    lines = [str(month), *sorted(figure.line() for figure in figures)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def plain(exact: int | Decimal | None) -> str | None:
    """Return an exact value as text, in one way only."""
    if exact is None:
        return None
    return str(exact) if isinstance(exact, int) else f"{exact.normalize():f}"
