"""How agencies' lines stand: backlog and age by what is counted, the state by a window of looks; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from consumers.monitor.deliveries import Deliveries
from consumers.monitor.evaluation import Sample, Since, Track, state_of
from consumers.monitor.groups import Members
from consumers.monitor.parkings import Waiting
from consumers.monitor.tally import Tally, Undelivered
from schemas.receipts import Channel
from services.delivery.lag import AgencyLag, State, Way
from services.runtime.kafka.port import Committed

SENT: frozenset[Channel] = frozenset({"webhook", "table"})
"""The channels by which events are sent, and may be refused; who fetches refuses nothing."""
MOVING: frozenset[State] = frozenset({"ok", "catching-up", "unknown"})
"""The states of a line that nothing else is wrong with."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a feed: where its cursor and its end are, how many wait parked, and the one parked last.

    ``suspended`` says why nobody may take it, by decision.
    """

    cursor: Committed
    end: int
    parked: int = 0
    newest: Waiting | None = None
    suspended: str | None = None


@dataclass(slots=True)
class Line:
    """What is kept of one agency's feed between looks."""

    tally: Tally = field(default_factory=Tally)
    track: Track = field(default_factory=Track)

    def logged_after(self, cursor: int, at_s: float, now: datetime) -> datetime | None:
        """Return the last moment at which this place of the feed was seen to be empty, None where none is known."""
        seen = next((sample.at for sample in reversed(self.track.samples) if sample.end <= cursor), None)
        return now - timedelta(seconds=at_s - seen) if seen is not None else None


class Lines:
    """All agencies' lines."""

    def __init__(self, deliveries: Deliveries, since: Since) -> None:
        self._deliveries = deliveries
        self._since = since
        self._lines: dict[str, Line] = {}

    def line(self, agency: str) -> Line:
        """Return an agency's line, a new one for one that was not known."""
        return self._lines.setdefault(agency, Line())

    def known(self, agency: str) -> Line | None:
        """Return an agency's line, None for an unknown one."""
        return self._lines.get(agency)

    def look(
        self, agency: str, channel: Channel, look: Look, at_s: float, now: datetime, members: Members
    ) -> AgencyLag:
        """Take a look in and return the agency's lag."""
        line, note = self.line(agency), _note(look.cursor.note)
        before = line.track.newest
        if before is not None and look.end < before.end:
            self._deliveries.begin_anew(agency)
        waiting = line.tally.undelivered(now.timestamp())
        line.track.add(Sample(at_s, min(look.cursor.offset, look.end), look.end, waiting.count))
        refused = channel in SENT and self._refused(agency, look.newest)
        state = _state(state_of(line.track.samples, members), held=bool(note.get("held_since")), refused=refused)
        if look.suspended is not None and channel != "webhook":
            # The pusher notes it beside the cursors of its own; of the others nobody does.
            state = "held"
            since = self._since.of(("agency", agency), state, now)
            note = {"held_since": since, "why": look.suspended, "decided": True}
        return self._agency(agency, channel, state, waiting, look, note, now)

    def _refused(self, agency: str, newest: Waiting | None) -> bool:
        """Tell whether nothing was seen to be taken since the newest event that waits parked."""
        taken_s = self._deliveries.taken_s(agency)
        return newest is not None and (taken_s is None or taken_s < newest.at_s)

    def _agency(
        self,
        agency: str,
        channel: Channel,
        state: State,
        waiting: Undelivered,
        look: Look,
        note: Mapping[str, Any],
        now: datetime,
    ) -> AgencyLag:
        latencies, channels = self._deliveries.latencies(agency)
        taken, slow = self._deliveries.totals(agency)
        oldest = waiting.published_s
        return AgencyLag(
            agency=agency,
            channel=self._way(channel, [one.channel for one in channels]),
            state=state,
            state_since=self._since.of(("agency", agency), state, now),
            oldest_age_s=max(0.0, now.timestamp() - oldest) if oldest is not None else None,
            oldest_published_at=datetime.fromtimestamp(oldest, UTC).isoformat() if oldest is not None else None,
            backlog=waiting.count,
            backlog_exact=waiting.exact,
            held_since=note.get("held_since"),
            held_why=note.get("why"),
            held_decided=bool(note.get("decided")),
            latencies=latencies,
            channels=channels,
            deadline=self._deliveries.deadline(agency, now, waiting.overdue, waiting.next_due_s),
            taken_total=taken,
            slow_total=slow,
            parked=look.parked,
            parked_at=datetime.fromtimestamp(look.newest.at_s, UTC).isoformat() if look.newest else None,
            parked_why=look.newest.why if look.newest else None,
        )

    @staticmethod
    def _way(channel: Channel, used: list[Way]) -> Way:
        """Return the channel in use; who pulls does so by stream when that is how it took what it took."""
        return "sse" if channel == "pull" and "sse" in used and "pull" not in used else channel

    def keep(self, agencies: Mapping[str, object]) -> None:
        """Forget all others."""
        for gone in self._lines.keys() - agencies.keys():
            del self._lines[gone]
        self._deliveries.keep(agencies)


def _state(seen: State, *, held: bool, refused: bool) -> State:
    """Return the state with the pusher's word: a held line moves not, and its note outlives a pusher that is gone.

    A line that moves by parking whatever comes does not keep up.
    """
    if held and seen != "stopped":
        return "held"
    return "parked" if refused and seen in MOVING else seen


def _note(text: str) -> Mapping[str, Any]:
    """Return what the pusher noted beside a cursor; an agency's own clients may write anything there."""
    try:
        found = orjson.loads(text or b"{}")
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
