"""What became of a closed month since: each figure as published and as now known, and the events of the difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from services.runtime.errors import ConflictError
from services.statistics.definition import Metric
from services.statistics.figure import Figure, Month
from services.statistics.gaps import check_counted
from services.statistics.lineage import Behind, behind_of
from services.statistics.reading import FigureReader

LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Change:
    """An event that counts now and did not (``added``), or counted and does no more (``removed``).

    ``late``: it came after the closing itself; otherwise one that came later displaced, corrected or restored it.
    """

    change: str
    late: bool
    event: Behind


@dataclass(frozen=True, slots=True)
class Adjustment:
    """One figure that is no more what was published. Of a figure computed from others no events are named."""

    published: Figure
    now_known: Figure
    changes: Sequence[Change]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        changes = [{"change": c.change, "late": c.late, **asdict(c.event)} for c in self.changes]
        return {"published": self.published.to_json(), "now_known": self.now_known.to_json(), "changes": changes}


def adjustments(reader: FigureReader, month: str) -> list[Adjustment]:
    """Return every figure of a closed month that has changed; raises ConflictError while the month is open, and
    CountedNoMoreError where the log has not all of it any more.

    Events are named also where they cancel each other out and the figure is the same.
    """
    at = Month.parse(month)
    if reader.frozen.decision(at.number) is None:
        raise ConflictError(f"{month} 尚未关账，没有调整 (is not closed, so there is nothing to adjust)")
    check_counted(reader, at)
    found = (_adjustment(reader, metric, month) for metric in reader.frozen.definitions(at.number))
    return [one for one in found if one.changes or one.published.exact != one.now_known.exact]


def _adjustment(reader: FigureReader, metric: Metric, month: str) -> Adjustment:
    changes = [] if metric.count.derived else changes_of(reader, metric, month)
    return Adjustment(reader.figure(metric.id, month), reader.figure(metric.id, month, now=True), changes)


def changes_of(reader: FigureReader, metric: Metric, month: str, limit: int = LIMIT) -> list[Change]:
    """Return the events behind the difference of one counted figure since the month was closed or last restated."""
    at = Month.parse(month)
    decision = reader.frozen.decision(at.number)
    if decision is None:
        return []
    check_counted(reader, at)
    rows = reader.counter.since(metric, at, limit=limit, **_places(decision.positions))
    return [Change(change, late, behind_of(tuple(rest))) for change, *rest, late in rows]


def _places(positions: Mapping[str, int]) -> dict[str, object]:
    names = [name.rpartition("/") for name in positions]
    return {
        "topics": [topic for topic, _, _ in names],
        "partitions": [int(number) for _, _, number in names],
        "offsets": list(positions.values()),
    }
