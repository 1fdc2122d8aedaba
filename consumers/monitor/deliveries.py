"""What the receipts tell: how long deliveries took, by agency and channel, in time or not, by whose clock; pure."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from consumers.monitor.spans import Spans
from consumers.monitor.window import Window, percentile
from schemas.contracts import Contracts
from schemas.receipts import Receipt
from schemas.working_days import CalendarEndsError, due_at
from services.delivery.lag import ChannelLag, ClockSkew, Deadline, Latencies, Way

WINDOW_S = 15 * 60
DEADLINE_S = 24 * 3600
HOUR_S = 3600
AGAIN = frozenset({"backfill", "replay"})
"""Why an event stands in a feed although it was published long ago: its age is nobody's delay."""
ACKNOWLEDGED_BY = frozenset({"pull", "kafka"})
"""Channels by which an agency's own acknowledgement is what tells that it has an event."""
AHEAD_S = 1.0
"""Clocks that are kept in step differ by less; a cause comes before its effect by more than this, or one is wrong."""
BEHIND_S = 60.0
SKEWS = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """The legal limit of each type in working days, where it has one."""

    days: Mapping[str, int]

    @classmethod
    def of(cls, contracts: Contracts) -> Limits:
        """Return the catalogue's limits."""
        known = ((name, one.catalogue.deadline_working_days) for name, one in contracts.types.items())
        return cls({name: days for name, days in known if days is not None})

    def due_s(self, kind: str, published: datetime) -> float | None:
        """Return when the limit has passed (seconds since the epoch), None where there is none that can be told."""
        days = self.days.get(kind)
        if days is None:
            return None
        try:
            return due_at(published, days).timestamp()
        except CalendarEndsError:
            return None


@dataclass(slots=True)
class _Channel:
    taken: Window = field(default_factory=Window)
    acknowledged: Window = field(default_factory=Window)

    def latencies(self) -> Latencies:
        taken, issue = self.taken.latencies_ms(), self.acknowledged.latencies_ms()
        return _latencies(self.taken.count, taken, self.acknowledged.count, issue)


@dataclass(slots=True)
class _Agency:
    channels: dict[Way, _Channel] = field(default_factory=dict)
    met: Counter[int] = field(default_factory=Counter)
    missed: Counter[int] = field(default_factory=Counter)
    taken_total: int = 0
    slow_total: int = 0
    taken_s: float | None = None
    had: Spans = field(default_factory=Spans)
    answered: Spans = field(default_factory=Spans)

    def channel(self, way: Way) -> _Channel:
        return self.channels.setdefault(way, _Channel())


@dataclass(frozen=True, slots=True)
class _Skew:
    done_s: float
    source: str
    ahead_s: float
    behind_s: float


class Deliveries:
    """Folds receipts; ``began`` is when it began to."""

    def __init__(self, limits: Limits, objective_s: float, began: datetime) -> None:
        self.limits = limits
        self._objective_ms = objective_s * 1000
        self._began = began
        self._agencies: defaultdict[str, _Agency] = defaultdict(_Agency)
        self._skews: deque[_Skew] = deque(maxlen=SKEWS)

    def take(self, document: Mapping[str, Any], logged_after: datetime | None = None) -> None:
        """Take a receipt in; raises ValueError, TypeError or the like for what is none.

        ``logged_after`` is a moment at which the event was certainly not on the log yet, where one is known.
        """
        if document.get("kind") == "statement":
            return
        receipt = Receipt.from_json(document)
        done = _aware(receipt.last_at)
        published = _aware(receipt.published_at) if receipt.published_at else None
        if receipt.outcome == "parked":
            return
        agency, way = self._agencies[receipt.agency], way_of(receipt)
        agency.taken_s = max(agency.taken_s or 0.0, done.timestamp())
        acknowledged = receipt.outcome != "delivered"
        # What an agency says once more, or of what it was pushed before, is no new delivery, however late it says it.
        if acknowledged and agency.answered.add(receipt.cursor):
            self._acknowledge(agency.channel(way), receipt, done)
        if published is None or (acknowledged and receipt.channel not in ACKNOWLEDGED_BY):
            return
        if not agency.had.add(receipt.cursor):
            return
        if receipt.reached_by not in AGAIN:
            took_ms = _ms(published, done)
            agency.channel(way).taken.add(done.timestamp(), took_ms)
            agency.taken_total += 1
            agency.slow_total += took_ms > self._objective_ms
            self._note_deadline(agency, receipt.type, published, done)
            self._note_clock(receipt, published, done, logged_after)

    def _acknowledge(self, channel: _Channel, receipt: Receipt, done: datetime) -> None:
        if receipt.happened_at and receipt.reached_by not in AGAIN:
            channel.acknowledged.add(done.timestamp(), _ms(_aware(receipt.happened_at), done))

    def _note_deadline(self, agency: _Agency, kind: str, published: datetime, done: datetime) -> None:
        due_s = self.limits.due_s(kind, published)
        if due_s is not None:
            (agency.met if done.timestamp() < due_s else agency.missed)[int(done.timestamp() // HOUR_S)] += 1

    def _note_clock(self, receipt: Receipt, published: datetime, done: datetime, logged_after: datetime | None) -> None:
        began = _aware(receipt.first_at) if receipt.first_at else done
        happened = _aware(receipt.happened_at) if receipt.happened_at else published
        ahead_s = max((published - began).total_seconds(), (happened - published).total_seconds())
        behind_s = (logged_after - published).total_seconds() if logged_after else 0.0
        if ahead_s > AHEAD_S or behind_s > BEHIND_S:
            self._skews.append(_Skew(done.timestamp(), receipt.source, ahead_s, behind_s))

    def forget_before(self, now_s: float) -> None:
        """Move the horizon: what ended more than the window before this moment is told no more."""
        for agency in self._agencies.values():
            for channel in agency.channels.values():
                channel.taken.forget_before(now_s - WINDOW_S)
                channel.acknowledged.forget_before(now_s - WINDOW_S)
            for counts in (agency.met, agency.missed):
                for hour in [one for one in counts if (one + 1) * HOUR_S <= now_s - DEADLINE_S]:
                    del counts[hour]
        while self._skews and self._skews[0].done_s < now_s - WINDOW_S:
            self._skews.popleft()

    def begin_anew(self, agency: str) -> None:
        """Take it that an agency's feed was made anew: other events have the cursors of those that it had."""
        found = self._agencies.get(agency)
        if found is not None:
            found.had, found.answered = Spans(), Spans()

    def keep(self, agencies: Mapping[str, object]) -> None:
        """Forget all other agencies."""
        for gone in self._agencies.keys() - agencies.keys():
            del self._agencies[gone]

    def totals(self, agency: str) -> tuple[int, int]:
        """Return how many were taken since the beginning, and how many of them slowly."""
        found = self._agencies.get(agency)
        return (found.taken_total, found.slow_total) if found else (0, 0)

    def taken_s(self, agency: str) -> float | None:
        """Return when something was taken last (epoch seconds), None where nothing was seen to be."""
        found = self._agencies.get(agency)
        return found.taken_s if found else None

    def latencies(self, agency: str) -> tuple[Latencies, list[ChannelLag]]:
        """Return what an agency took in the window: by all channels together, and by each."""
        found = self._agencies.get(agency)
        used = {way: one for way, one in found.channels.items() if _used(one)} if found else {}
        channels = [ChannelLag(way, used[way].latencies()) for way in sorted(used)]
        if len(channels) == 1:
            return channels[0].latencies, channels
        taken = sorted(ms for one in used.values() for ms in one.taken.latencies_ms())
        issue = sorted(ms for one in used.values() for ms in one.acknowledged.latencies_ms())
        counts = (sum(one.taken.count for one in used.values()), sum(o.acknowledged.count for o in used.values()))
        return _latencies(counts[0], taken, counts[1], issue), channels

    def deadline(self, agency: str, now: datetime, overdue: int, next_due_s: float | None) -> Deadline:
        """Return how an agency stands to the legal limits, with what waits for it now."""
        found = self._agencies.get(agency)
        met, missed = (found.met.total(), found.missed.total()) if found else (0, 0)
        total = met + missed + overdue
        since = max(self._began.timestamp(), now.timestamp() - DEADLINE_S)
        return Deadline(
            since=datetime.fromtimestamp(since, UTC).isoformat(),
            met=met,
            total=total,
            share=met / total if total else None,
            overdue=overdue,
            next_at=datetime.fromtimestamp(next_due_s, UTC).isoformat() if next_due_s is not None else None,
        )

    def clocks(self) -> list[ClockSkew]:
        """Return whose clocks can't be right, each source once for each direction."""
        found: dict[tuple[str, bool], list[float]] = defaultdict(list)
        for skew in self._skews:
            if skew.ahead_s > AHEAD_S:
                found[skew.source, True].append(skew.ahead_s)
            if skew.behind_s > BEHIND_S:
                found[skew.source, False].append(skew.behind_s)
        return [
            ClockSkew(source, "ahead" if ahead else "behind", round(seconds[-1], 3), len(seconds))
            for (source, ahead), seconds in sorted(found.items())
        ]


def way_of(receipt: Receipt) -> Way:
    """Return the channel that a receipt came by; a stream is told from pulling."""
    return "sse" if receipt.channel == "pull" and receipt.streamed else receipt.channel


def _used(channel: _Channel) -> bool:
    return bool(channel.taken.count or channel.acknowledged.count)


def _latencies(delivered: int, taken: list[float], acknowledged: int, issue: list[float]) -> Latencies:
    published = (percentile(taken, 0.50), percentile(taken, 0.95), percentile(taken, 0.99))
    issued = (percentile(issue, 0.50), percentile(issue, 0.95), percentile(issue, 0.99))
    return Latencies(delivered, *published, acknowledged, *issued)


def _ms(since: datetime, until: datetime) -> float:
    return max(0.0, (until - since).total_seconds() * 1000)


def _aware(text: str) -> datetime:
    """Read a time; raises ValueError for one without its offset, which says nothing of how long ago it was."""
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"a time without its offset: {text}")
    return found
