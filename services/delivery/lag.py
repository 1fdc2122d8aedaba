"""How far behind everyone is, as values: agencies, consumer groups, the probe and publishers' clocks at one moment.

The monitor makes them; the portal, the alerts and the terminal read them, as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeVar, get_args

State = Literal["ok", "catching-up", "slow", "stalled", "stopped", "rewound", "held", "parked", "unknown"]
"""How a consumer stands to what it is to take.

``ok``: it keeps up. ``catching-up``: it is behind and gains. ``slow``: it moves, but what comes is more. ``stalled``:
it is there, and does not move. ``stopped``: nobody is there. ``rewound``: it was put back, and reads again what it had
read. ``held``: the pusher keeps the line back, and says why. ``parked``: it moves, but what it was given last was
refused, and nobody has dealt with that. ``unknown``: not watched for long enough to tell.
"""
STATES: tuple[State, ...] = get_args(State)
TROUBLED: frozenset[State] = frozenset({"slow", "stalled", "stopped", "rewound", "held", "parked"})
"""The states that somebody should look at."""

Way = Literal["webhook", "pull", "sse", "kafka", "table"]
"""By which channel an agency takes its feed; ``sse`` is pulling over an open stream."""

ProbePhase = Literal["off", "starting", "ok", "late", "lost", "refused", "unknown"]
"""``late``: the newest took too long, or one is overdue. ``lost``: one was accepted and did not come for very long.
``refused``: the gateway did not take it, or can't be reached. ``unknown``: the monitor, which sends it, is away."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """What ended in the window, and how long it took.

    ``delivered`` events were taken (a 2xx; by pull, stream and Kafka, the agency's acknowledgement; by table, the
    commit), ``p50_ms`` … ``p99_ms`` from publication. ``acknowledged`` are business receipts (业务回执), ``issue_…``
    from the event's own time. Percentiles are those of the newest 5,000, None of none.
    """

    delivered: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    acknowledged: int = 0
    issue_p50_ms: float | None = None
    issue_p95_ms: float | None = None
    issue_p99_ms: float | None = None


@dataclass(frozen=True, slots=True)
class ChannelLag:
    """What one agency took by one channel in the window."""

    channel: Way
    latencies: Latencies


@dataclass(frozen=True, slots=True)
class Deadline:
    """The legal limit in working days from publication (the catalogue's), since ``since``, at most a day.

    ``met`` of ``total`` events were taken in time; an event that is overdue now and still not taken counts as not met.
    ``share`` is None when no event had a limit. ``overdue`` events wait beyond theirs now; ``next_at`` is the end of
    the earliest limit of what waits.
    """

    since: str
    met: int = 0
    total: int = 0
    share: float | None = None
    overdue: int = 0
    next_at: str | None = None


@dataclass(frozen=True, slots=True)
class AgencyLag:
    """One agency's delivery lag. ``channel`` is the one it takes its feed by now.

    ``oldest_age_s`` counts from the publication of the oldest undelivered event (None when there is none), and at least
    from when the monitor first saw it: a publisher whose clock is ahead hides nothing. ``backlog`` counts undelivered
    events, a lower bound when ``backlog_exact`` is false. ``taken_total`` and ``slow_total`` count what was taken since
    the monitor began, and of that what took longer than the objective: differences give a rate over any time.
    ``state`` holds since ``state_since``; ``held_since`` and ``held_why`` are the pusher's own words, ``held_decided``
    tells that somebody has decided it. ``latencies`` are those of all channels together, ``channels`` of each.
    ``parked`` events were given up and wait for somebody, whenever that was; ``parked_at`` and ``parked_why`` are of
    the newest. What somebody decided to stop is none of them.
    """

    agency: str
    channel: Way
    state: State
    state_since: str
    oldest_age_s: float | None
    oldest_published_at: str | None
    backlog: int
    backlog_exact: bool
    held_since: str | None
    held_why: str | None
    held_decided: bool
    latencies: Latencies
    channels: Sequence[ChannelLag]
    deadline: Deadline
    taken_total: int = 0
    slow_total: int = 0
    parked: int = 0
    parked_at: str | None = None
    parked_why: str | None = None


@dataclass(frozen=True, slots=True)
class GroupLag:
    """One consumer group behind one topic, in records over all partitions; the ends of transactions are none.

    ``delay_s`` is how long ago what it has reached was the end (0 when it keeps up), to the monitor's period.
    ``partitions`` counts those that are in ``state``, the worst of all; ``members`` is None where it was not asked for.
    ``lag`` is a lower bound when ``lag_exact`` is false.
    """

    group: str
    topic: str
    lag: int
    state: State
    state_since: str
    delay_s: float
    partitions: int
    members: int | None = None
    lag_exact: bool = True


@dataclass(frozen=True, slots=True)
class ProbeLag:
    """The end-to-end probe: a small event every ``period_s`` through gateway, router and pusher to the monitor itself.

    ``last_ms`` is the newest arrival's way from the call to the signed delivery, ``gateway_ms`` of it the gateway's
    answer. Counts and percentiles are of the window. ``clock_ahead_s`` is how far the gateway's clock is ahead of the
    monitor's, 0 as far as the probe can tell.
    """

    state: ProbePhase
    state_since: str
    detail: str = ""
    period_s: float = 0.0
    last_at: str | None = None
    last_ms: float | None = None
    gateway_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    sent: int = 0
    received: int = 0
    lost: int = 0
    refused: int = 0
    clock_ahead_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ClockSkew:
    """A publisher whose times can't be right, as of the window's deliveries.

    ``ahead``: an event was delivered before it was published, or published before it happened. ``behind``: the newest
    of its events was older than ``seconds`` on arrival, every one of them, while the probe and its agencies' lines were
    quick.
    """

    source: str
    direction: Literal["ahead", "behind"]
    seconds: float
    events: int


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A partition on which a transaction has been open for longer than any may be.

    Nobody can read what stands from ``offset`` on: ``hidden`` offsets, since ``since``.
    """

    topic: str
    partition: int
    offset: int
    hidden: int
    since: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everyone's lag at one moment; latencies over the last ``window_s`` seconds.

    ``unreadable`` counts, since the meter began, records whose times could not be read: the log's own stood in.
    ``open_transactions`` is None while it is not known: one is told from the others only after a minute.
    ``took_s`` is what measuring took. While Kafka is away the last snapshot stands, with since when and why.
    """

    at: str
    window_s: int
    agencies: Sequence[AgencyLag]
    groups: Sequence[GroupLag]
    probe: ProbeLag
    clocks: Sequence[ClockSkew] = ()
    open_transactions: Sequence[OpenTransaction] | None = None
    unreadable: int = 0
    took_s: float = 0.0
    objective_s: float = 0.0
    away_since: str | None = None
    away_why: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return the snapshot as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Snapshot:
        """Read a snapshot, leaving out what a newer version adds; raises KeyError, TypeError or AttributeError."""
        parts = {
            "agencies": [_agency(one) for one in document["agencies"]],
            "groups": [_known(GroupLag, one) for one in document["groups"]],
            "probe": _known(ProbeLag, document["probe"]),
            "clocks": [_known(ClockSkew, one) for one in document.get("clocks", ())],
            "open_transactions": _open_transactions(document),
        }
        return _known(cls, {**document, **parts})

    def agency(self, name: str) -> AgencyLag | None:
        """Return one agency's lag, None when it is not measured."""
        return next((one for one in self.agencies if one.agency == name), None)


def at_least(number: int, *, exact: bool) -> str:
    """Return how many wait for people: marked where they were not counted to their end."""
    return f"{number:,}" if exact else f"≥ {number:,}"


SNAPSHOT_PATH = "/v1/snapshot"
"""Where the monitor serves the newest snapshot; 503 before the first."""

T = TypeVar("T", AgencyLag, ChannelLag, ClockSkew, Deadline, GroupLag, Latencies, OpenTransaction, ProbeLag, Snapshot)


def _agency(document: Mapping[str, Any]) -> AgencyLag:
    parts = {
        "latencies": _known(Latencies, document["latencies"]),
        "deadline": _known(Deadline, document["deadline"]),
        "channels": [
            _known(ChannelLag, {**one, "latencies": _known(Latencies, one["latencies"])})
            for one in document["channels"]
        ],
    }
    return _known(AgencyLag, {**document, **parts})


def _open_transactions(document: Mapping[str, Any]) -> Sequence[OpenTransaction] | None:
    found = document.get("open_transactions")
    return None if found is None else [_known(OpenTransaction, one) for one in found]


def _known(kind: type[T], values: Mapping[str, Any]) -> T:
    names = {one.name for one in fields(kind)}
    return kind(**{name: value for name, value in values.items() if name in names})
