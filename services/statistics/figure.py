"""A figure: the value of one metric in one period, exact and as shown, with what it was counted by."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, Protocol

from schemas.times import month_bounds
from services.runtime.errors import FieldProblem, InvalidError
from services.statistics.definition import Metric

Basis = Literal["log", "closed", "published"]
_MONTH = re.compile(r"(?P<year>[12][0-9]{3})-(?P<month>0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A Shanghai calendar month."""

    year: int
    month: int

    @classmethod
    def parse(cls, text: str) -> Month:
        """Read ``2025-12``; raises InvalidError."""
        found = _MONTH.fullmatch(text)
        if found is None:
            raise InvalidError([FieldProblem("/month", f"应为 2025-12 这样的年月 (a month like 2025-12): {text}")])
        return cls(int(found["year"]), int(found["month"]))

    @classmethod
    def of_number(cls, number: int) -> Month:
        """Return the month of a number like 202512."""
        return cls(number // 100, number % 100)

    @property
    def number(self) -> int:
        """Return it as a number that sorts: 202512."""
        return self.year * 100 + self.month

    @property
    def bounds(self) -> tuple[datetime, datetime]:
        """Return it as a closed-open pair of UTC times."""
        return month_bounds(self.year, self.month)

    def back(self, months: int) -> Month:
        """Return the month so many months before."""
        count = self.year * 12 + self.month - 1 - months
        return Month(count // 12, count % 12 + 1)

    def __str__(self) -> str:
        return f"{self.year}-{self.month:02d}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. ``exact`` is None where there is no value (a rate of nothing, a month without data to compare with).

    ``count`` is how many events, cases or values stand behind it. ``basis``: counted from the log now, as it was when
    the month was closed, or a published aggregate of a month that has no events here.
    """

    metric_id: str
    version: int
    label_zh: str
    label_en: str
    month: str
    period: str
    exact: int | Decimal | None
    unit: str
    shown: str
    shown_unit: str
    rounding: str
    count: int
    dimensions: Mapping[str, str] = field(default_factory=dict)
    basis: Basis = "log"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values; a decimal is text."""
        exact = str(self.exact) if isinstance(self.exact, Decimal) else self.exact
        names = ("metric_id", "version", "label_zh", "label_en", "month", "period", "unit", "shown", "shown_unit")
        found = {name: getattr(self, name) for name in (*names, "rounding", "count", "basis")}
        return found | {"exact": exact, "dimensions": dict(self.dimensions)}

    def with_basis(self, basis: Basis) -> Figure:
        """Return the same figure on another basis."""
        return replace(self, basis=basis)


def figure_of(
    metric: Metric,
    month: Month,
    exact: int | Decimal | None,
    count: int,
    dimensions: Mapping[str, str] | None = None,
    basis: Basis = "log",
) -> Figure:
    """Return a metric's figure."""
    shown = metric.rule.show(exact, metric.unit)
    return Figure(
        metric_id=metric.id,
        version=metric.version,
        label_zh=metric.label_zh,
        label_en=metric.label_en,
        month=str(month),
        period=metric.period,
        exact=exact,
        unit=metric.unit,
        shown=shown.value,
        shown_unit=shown.unit,
        rounding=metric.rounding,
        count=count,
        dimensions=dimensions or {},
        basis=basis,
    )


class Figures(Protocol):
    """Answers figures, all of one moment. Every method raises NotFoundError for a metric or month that isn't defined,
    InvalidError for a dimension that the metric does not have, and DatabaseUnavailableError.
    """

    def figure(self, metric_id: str, month: str, dimensions: Mapping[str, str] | None = None) -> Figure:
        """Return one figure, of all its population or of these values of its dimensions.

        ``month`` is the month itself, the last month of a year to date, or the one at whose end things stood.
        """
        ...

    def breakdown(self, metric_id: str, month: str, dimension: str, top: int | None = None) -> Sequence[Figure]:
        """Return the figure of each value of a dimension, the largest first; ``top`` limits how many."""
        ...

    def series(self, metric_id: str, month: str, months: int = 12) -> Sequence[Figure]:
        """Return the figures of so many months up to this one, the earliest first; imported aggregates are marked."""
        ...

    def metric(self, metric_id: str, month: str) -> Metric:
        """Return the definition that holds for a month (the frozen one where the month is closed)."""
        ...
