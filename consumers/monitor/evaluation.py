"""How a consumer stands, told from a window of what was seen of it; pure.

The rules follow Burrow's (github.com/linkedin/Burrow, "Consumer Lag Evaluation Rules"): no threshold on the lag itself,
but whether the offset moves and whether the lag shrinks over the window; a lag that was zero in it is no trouble. Two
things differ, since positions are looked at here and not the commits themselves. What has no member is stopped and what
has some stalled, where Burrow goes by the age of the last commit. And a lag that is no older than the last look is work
under way: a busy consumer is never at the very end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import fmean, median

from services.delivery.lag import State

WINDOW_S = 60.0
"""What happened longer ago tells nothing of now."""
LEAST_S = 1.8
"""No trouble is told of a shorter stretch than this, nor of fewer than three looks: two periods of a look a second,
less what their times wander. Whatever happens is to be seen on the portal's page within five seconds."""
LEAST_SAMPLES = 3
RHYTHM_MOVES = 3
"""So many moves tell a rhythm: who takes an event every four seconds is slow, and does not stand in between."""
SEVERITY: tuple[State, ...] = (
    "ok",
    "unknown",
    "catching-up",
    "parked",
    "held",
    "slow",
    "rewound",
    "stalled",
    "stopped",
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at one partition: when (monotonic seconds), where the group stood, the log's end, and the lag.

    ``committed`` was read before ``end``. ``lag`` is in records: ends of transactions between the two are none.
    """

    at: float
    committed: int
    end: int
    lag: int


def state_of(samples: Sequence[Sample], members: Callable[[], int | None]) -> State:
    """Return how the consumer stands by a window of samples, oldest first.

    ``members`` tells how many the group has, None where that can't be told; it is asked only when it matters.
    """
    if not samples:
        return "unknown"
    newest = samples[-1]
    if any(sample.committed > newest.committed for sample in samples):
        return "rewound"
    if newest.lag == 0:
        return "ok"
    patience_s = _patience_s(samples)
    if _enough(_still(samples), patience_s):
        return "stopped" if members() == 0 else "stalled"
    if len(samples) < 2:
        return "unknown"
    if delay_s(samples) <= newest.at - samples[-2].at:
        return "ok"
    return "slow" if _losing(samples, patience_s) else "catching-up"


def delay_s(samples: Sequence[Sample]) -> float:
    """Return how long ago what the consumer has reached was the end: to the last look, and the window at most."""
    newest = samples[-1]
    if newest.lag == 0:
        return 0.0
    reached = next((s for s in reversed(samples) if s.end <= newest.committed), samples[0])
    return newest.at - reached.at


def stood_since(samples: Sequence[Sample]) -> float:
    """Return since when there is something to take and the offset does not move; the last look where it does."""
    still = _still(samples)
    return (still[0] if still else samples[-1]).at


def moved_at(samples: Sequence[Sample]) -> float | None:
    """Return when the offset was last seen to have moved, None where it was not."""
    moves = (later.at for earlier, later in pairwise(samples) if later.committed > earlier.committed)
    return max(moves, default=None)


def worst(states: Iterable[State]) -> State:
    """Return the state of the partition that is worst off; "ok" of none."""
    return max(states, key=SEVERITY.index, default="ok")


def _still(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return the newest samples in which there was something to take and the offset did not move."""
    newest, first = samples[-1], len(samples)
    while first and samples[first - 1].committed == newest.committed and samples[first - 1].lag > 0:
        first -= 1
    return samples[first:]


def _patience_s(samples: Sequence[Sample]) -> float:
    """Return how long it must stand before it stands still: longer for who moves in a slow rhythm."""
    pauses: list[float] = []
    moved_at: float | None = None
    for earlier, later in pairwise(samples):
        if later.committed > earlier.committed:
            if moved_at is not None:
                pauses.append(later.at - moved_at)
            moved_at = later.at
        if later.lag == 0:
            moved_at = None
    return max(LEAST_S, 1.5 * median(pauses)) if len(pauses) >= RHYTHM_MOVES else LEAST_S


def _losing(samples: Sequence[Sample], least_s: float) -> bool:
    """Tell whether the offset moves, and the lag of the newest stretch is in its later half no less than in its first.

    Halves, since a lag never grows evenly: one look at which a batch had just been taken is no gain yet.
    """
    first = next((n for n in range(len(samples) - 1, -1, -1) if _enough(samples[n:], least_s)), None)
    if first is None:
        return False
    stretch = samples[first:]
    lags = [sample.lag for sample in stretch]
    moves = stretch[-1].committed > stretch[0].committed
    return moves and min(lags) > 0 and fmean(lags[-(len(lags) // 2) :]) >= fmean(lags[: len(lags) // 2])


def _enough(samples: Sequence[Sample], least_s: float) -> bool:
    return len(samples) >= LEAST_SAMPLES and samples[-1].at - samples[0].at >= least_s


class Track:
    """The window of one partition."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque()

    @property
    def samples(self) -> Sequence[Sample]:
        """Return the window, oldest first."""
        return list(self._samples)

    @property
    def newest(self) -> Sample | None:
        """Return the last look."""
        return self._samples[-1] if self._samples else None

    def add(self, sample: Sample) -> None:
        """Take in a look. A log that is shorter than before was made anew: what was seen of the old is forgotten."""
        held = self._samples
        if held and sample.end < held[-1].end:
            held.clear()
        held.append(sample)
        while held[0].at < sample.at - WINDOW_S:
            held.popleft()


class Since:
    """Remembers since when each of many things is in its state."""

    def __init__(self) -> None:
        self._held: dict[object, tuple[State, str]] = {}

    def of(self, thing: object, state: State, now: datetime) -> str:
        """Return since when it is in this state."""
        held = self._held.get(thing)
        if held is None or held[0] != state:
            held = self._held[thing] = (state, now.isoformat())
        return held[1]

    def keep(self, things: Iterable[object]) -> None:
        """Forget all others."""
        kept = set(things)
        for gone in self._held.keys() - kept:
            del self._held[gone]
