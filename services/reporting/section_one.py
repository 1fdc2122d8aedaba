"""Section one of the monthly report (一、总体运行情况): the figures of a month, exact and as shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.statistics.figure import Figure, Month
from services.statistics.reading import FigureReader


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
        figures = [figure.to_json() for figure in self.figures]
        said = {"month": self.month, "from": self.from_, "to": self.to, "events": self.events}
        return said | {"offsets": dict(self.offsets), "figures": figures}


def section_one(read: FigureReader, month: str) -> SectionOne:
    """Count a month, all figures on one snapshot; raises InvalidError for what is no month."""
    at = Month.parse(month)
    ids = next(group.ids for group in read.metrics.groups if group.name == "section_one")
    figures = [read.figure(metric_id, month) for metric_id in ids]
    offsets = {f"{topic}/{number}": offset for (topic, number), offset in sorted(read.positions().items())}
    return SectionOne(month, at.bounds[0].isoformat(), at.bounds[1].isoformat(), read.events(at), offsets, figures)
