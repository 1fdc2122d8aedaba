"""How far behind everyone is, as values: one snapshot of agencies and consumer groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from consumers.monitor.window import Window
from services.subscriptions.control import ControlView


@dataclass(frozen=True, slots=True)
class AgencyLag:
    """One agency's delivery lag.

    ``delivered`` counts the deliveries of the window, the percentiles are those of its newest (see Window).
    ``oldest_age_s`` counts from the publication of the oldest undelivered event (None when there is none);
    ``backlog`` counts undelivered events, a lower bound when ``backlog_exact`` is false; the percentiles are
    milliseconds from publication to 2xx over the window, None when nothing was delivered in it.
    """

    agency: str
    oldest_age_s: float | None
    backlog: int
    backlog_exact: bool
    delivered: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    held_since: str | None
    held_why: str | None


@dataclass(frozen=True, slots=True)
class GroupLag:
    """One consumer group's lag behind one topic, in offsets over all partitions; never negative."""

    group: str
    topic: str
    lag: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everyone's lag at one moment; latencies over the last ``window_s`` seconds.

    ``unreadable`` counts, since the meter began, records whose times could not be read: the log's own stood in.
    """

    at: str
    window_s: int
    agencies: Sequence[AgencyLag]
    groups: Sequence[GroupLag]
    unreadable: int = 0

    def to_json(self) -> dict[str, object]:
        """Return the snapshot as plain JSON values."""
        return asdict(self)


def measured(view: ControlView) -> tuple[list[str], list[str]]:
    """Return the agencies that are known, and those among them that take their feeds by other ways than the webhook."""
    agencies = list(view.agencies)
    return agencies, [agency for agency in agencies if agency in view.access]


def percentile(samples: Sequence[float], share: float) -> float | None:
    """Return the nearest-rank percentile (share in 0..1) of sorted samples, None of none."""
    if not samples:
        return None
    return samples[max(0, math.ceil(share * len(samples)) - 1)]


def agency_lag(
    agency: str,
    now: datetime,
    undelivered: Undelivered,
    window: Window,
    note: Mapping[str, str | None],
) -> AgencyLag:
    """Put one agency's figures together."""
    ordered = window.latencies_ms()
    oldest = undelivered.oldest_published
    return AgencyLag(
        agency=agency,
        oldest_age_s=max(0.0, (now - oldest).total_seconds()) if oldest else None,
        backlog=undelivered.count,
        backlog_exact=undelivered.exact,
        delivered=window.delivered,
        p50_ms=percentile(ordered, 0.50),
        p95_ms=percentile(ordered, 0.95),
        p99_ms=percentile(ordered, 0.99),
        held_since=note.get("held_since"),
        held_why=note.get("why"),
    )


@dataclass(frozen=True, slots=True)
class Undelivered:
    """What stands in a feed beyond the cursor; ``exact`` tells whether all of it was counted."""

    count: int = 0
    exact: bool = True
    oldest_published: datetime | None = None


def group_lag(group: str, topic: str, committed: Sequence[int], ends: Sequence[int]) -> GroupLag:
    """Sum the lag of the partitions. The committed offsets must be read before the ends, else lag would be hidden."""
    return GroupLag(group, topic, sum(max(0, end - at) for at, end in zip(committed, ends, strict=True)))
