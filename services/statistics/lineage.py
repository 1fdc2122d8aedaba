"""From a figure to the events behind it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from services.statistics.counting import WHOLE, Part
from services.statistics.definition import Metric
from services.statistics.figure import Figure, Month
from services.statistics.population import population
from services.statistics.reading import FigureReader

SAMPLE = 5
NO_LIMIT = 2**62


@dataclass(frozen=True, slots=True)
class Behind:
    """One event behind a figure, and where it stands on the log."""

    source: str
    event_id: str
    case_key: str
    occurred_at: str
    log: str
    marks: str | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a figure came about. Of a figure computed from others ``parts`` explains these, and it has no events itself.

    ``digest`` is one over the identities of all its events; ``sample`` are the first events of the figure's last
    month, or all that were asked for; ``marked`` counts those of that month with quality marks (an assumed offset).
    ``gaps`` are records that the log has no more: then no event is named, and the digest is the one that was frozen.
    """

    figure: Figure
    as_now_known: Figure
    definition: Mapping[str, Any]
    digest: str | None
    marked: int
    sample: Sequence[Behind]
    parts: Sequence[Explanation] = ()
    gaps: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "figure": self.figure.to_json(),
            "as_now_known": self.as_now_known.to_json(),
            "definition": dict(self.definition),
            "digest": self.digest,
            "marked": self.marked,
            "sample": [asdict(one) for one in self.sample],
            "parts": [part.to_json() for part in self.parts],
            "gaps": list(self.gaps),
        }


def explain(
    reader: FigureReader,
    metric_id: str,
    month: str,
    *,
    where: Mapping[str, str] | None = None,
    all_ids: bool = False,
) -> Explanation:
    """Explain a figure, whole or of these values of its dimensions; raises NotFoundError or InvalidError."""
    metric, at = reader.metric(metric_id, month), Month.parse(month)
    part = reader.part(at, where or {})
    figure = reader.figure(metric_id, month, where)
    now = figure if figure.basis == "log" else reader.figure(metric_id, month, where, now=True)
    said = metric.model_dump(mode="json", exclude_defaults=True) | {"version": metric.version, "digest": metric.digest}
    if "deadline" in population(metric.population).fields():
        said["deadline_from"] = metric.deadline_from
    if metric.count.derived:
        others = dict.fromkeys(metric.count.metrics)
        parts = [explain(reader, one, month, where=where, all_ids=all_ids) for one in others]
        return Explanation(figure, now, said, None, 0, (), parts)
    lacking = [str(gap) for gap in reader.lacking(metric, at)]
    if lacking:
        digest = None if where else reader.frozen.events_digest(metric_id, at.number)
        return Explanation(figure, now, said, digest, 0, (), (), lacking)
    marked, events = behind(reader, metric, at, part, all_ids)
    return Explanation(figure, now, said, events_digest(reader, metric, at, part), marked, events)


def behind(
    reader: FigureReader, metric: Metric, month: Month, part: Part = WHOLE, all_ids: bool = False
) -> tuple[int, list[Behind]]:
    """Return the events behind a counted metric, the earliest first, and how many have quality marks.

    They are the first few of the figure's last month (as of: of all), or every event of its period.
    """
    if not all_ids and reader.counter.is_fast(metric, part):
        marked, rows = reader.counter.sample(metric, month, SAMPLE, part)
        return marked, [behind_of(row) for row in rows]
    narrow = metric if all_ids or metric.period == "as_of" else metric.model_copy(update={"period": "month"})
    rows = reader.counter.run(narrow, month, "lineage_sample", part, limit=NO_LIMIT if all_ids else SAMPLE)
    return (int(rows[0][-1]) if rows else 0), [behind_of(row[:-1]) for row in rows]


def behind_of(row: tuple[Any, ...]) -> Behind:
    """Return an event of a row: source, id, case, time, topic, partition, offset, marks."""
    source, event_id, case_key, occurred_at, topic, partition, offset, marks = row
    return Behind(source, event_id, case_key, occurred_at.isoformat(), f"{topic}/{partition}@{offset}", marks)


def events_digest(reader: FigureReader, metric: Metric, month: Month, part: Part = WHOLE) -> str:
    """Return a digest over the identities of all events that a metric counts: month by month and cell by cell."""
    if reader.counter.is_fast(metric, part):
        return reader.counter.digest(metric, month, part)
    found = hashlib.sha256()
    for at, cell, digest in sorted(reader.counter.run(metric, month, "lineage_digest", part)):
        found.update(f"{at} {cell} ".encode() + bytes(digest))
    return found.hexdigest()
