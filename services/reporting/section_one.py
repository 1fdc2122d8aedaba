"""Section one of the monthly report (一、总体运行情况): the figures of a month, exact and as shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from schemas.times import month_bounds
from services.runtime.errors import FieldProblem, InvalidError
from services.statistics.definitions import SECTION_ONE, Metric
from services.statistics.repository import FigureReader
from services.statistics.rounding import shown

_MONTH = re.compile(r"(?P<year>[12][0-9]{3})-(?P<month>0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: exact value with its unit, and as it is printed."""

    metric_id: str
    label_zh: str
    label_en: str
    exact: int
    unit: str
    shown: str
    shown_unit: str


@dataclass(frozen=True, slots=True)
class SectionOne:
    """The figures of one month, and what they were counted from: events, and the log up to these offsets.

    ``from_`` and ``to`` bound the month, closed-open, in UTC; ``offsets`` are next offsets by ``topic/partition``.
    """

    month: str
    from_: str
    to: str
    events: int
    offsets: Mapping[str, int]
    figures: Sequence[Figure]

    def to_json(self) -> dict[str, object]:
        """Return the section as JSON values."""
        found = asdict(self)
        found["from"] = found.pop("from_")
        return found


def parse_month(text: str) -> tuple[int, int]:
    """Return year and month of ``2025-12``; raises InvalidError."""
    found = _MONTH.fullmatch(text)
    if found is None:
        raise InvalidError([FieldProblem("/month", f"应为 2025-12 这样的年月 (a month like 2025-12): {text}")])
    return int(found["year"]), int(found["month"])


def section_one(read: FigureReader, month: str) -> SectionOne:
    """Count a month, all figures on one snapshot; raises InvalidError for what is no month."""
    bounds = month_bounds(*parse_month(month))
    figures = [_figure(metric, read.count(metric, bounds)) for metric in SECTION_ONE]
    offsets = {f"{topic}/{number}": offset for (topic, number), offset in sorted(read.positions().items())}
    return SectionOne(month, bounds[0].isoformat(), bounds[1].isoformat(), read.events(bounds), offsets, figures)


def _figure(metric: Metric, exact: int) -> Figure:
    printed = shown(exact, metric.shown_unit)
    return Figure(metric.id, metric.label_zh, metric.label_en, exact, metric.unit, printed.value, printed.unit)
