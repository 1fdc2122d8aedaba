"""How the pusher stands behind all the feeds that it pushes: that a receiver is away is not its lag; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consumers.monitor.evaluation import Sample, moved_at, stood_since
from services.delivery.lag import ProbePhase, State

FLOWING: frozenset[ProbePhase] = frozenset({"ok", "late", "lost"})
"""The probe's phases in which its events come to where the pusher takes them."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """One pushed feed: its line's state, how many wait in it, and its window, oldest first."""

    state: State
    backlog: int
    samples: Sequence[Sample]

    @property
    def waits(self) -> bool:
        """Tell whether something is to be taken; what a held line holds waits for its receiver."""
        return self.backlog > 0 and self.state != "held"


def pusher_state(agencies: Sequence[Pushed], probe: Pushed | None) -> State:
    """Return how the pusher stands, by the agencies' feeds and its own probe's, None where none flows.

    It stands still where something stands and nothing has moved since. One receiver that hangs makes its line stand
    too: while a probe flows, that is what tells the two apart, and until it has told nobody knows.
    """
    feeds = [*agencies, *([probe] if probe else [])]
    if any(one.state == "stopped" for one in feeds):
        return "stopped"
    standing = [one for one in feeds if one.waits and one.state == "stalled"]
    if not standing:
        return "ok"
    since = max(stood_since(one.samples) for one in standing)
    if any((moved_at(one.samples) or since) > since for one in feeds):
        return "ok"
    return "stalled" if probe is None or probe in standing else "unknown"


def pusher_delay_s(state: State, feeds: Sequence[Pushed]) -> float:
    """Return for how long something waits that it does not take, in the window at most; 0 where it works.

    Offsets would tell too much: a feed's end is always beyond its last event, by the end of a transaction.
    """
    waiting = [one.samples for one in feeds if one.waits] if state != "ok" else []
    return max((samples[-1].at - stood_since(samples) for samples in waiting), default=0.0)
