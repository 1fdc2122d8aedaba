"""How the pusher stands behind all the feeds that it pushes: that a receiver is away is not its lag; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consumers.monitor.evaluation import Sample, delay_s, moved_at, stood_since
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

    It stands still where nothing that waits moves. One receiver that hangs makes its line stand too: while a probe
    flows, that is what tells the two apart, and until it has told nobody knows.
    """
    feeds = [*agencies, *([probe] if probe else [])]
    if any(one.state == "stopped" for one in feeds):
        return "stopped"
    waiting = [one for one in feeds if one.waits]
    if not waiting or any(one.state != "stalled" for one in waiting):
        return "ok"
    if probe is None or probe.waits:
        return "stalled"
    moved = moved_at(probe.samples)
    return "ok" if moved is not None and moved >= min(stood_since(one.samples) for one in waiting) else "unknown"


def pusher_delay_s(state: State, feeds: Sequence[Pushed]) -> float:
    """Return how long ago what it has reached was the end, where it is the pusher that does not take it."""
    waiting = [one.samples for one in feeds if one.waits] if state != "ok" else []
    return max(map(delay_s, waiting), default=0.0)
