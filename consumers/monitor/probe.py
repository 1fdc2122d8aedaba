"""The probe's state from what was sent, answered and received; pure but for its lock: three threads tell it things."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from consumers.monitor.deliveries import WINDOW_S
from consumers.monitor.window import percentile
from services.delivery.lag import ProbeLag, ProbePhase

MOST = 4000


@dataclass(slots=True)
class Shot:
    """One probe event: when it was sent (seconds since the epoch), and what became of it."""

    id: str
    sent_s: float
    answered_s: float | None = None
    refused: str | None = None
    received_s: float | None = None

    @property
    def took_s(self) -> float | None:
        """Return how long its way took, None while it is out."""
        return None if self.received_s is None else max(0.0, self.received_s - self.sent_s)

    def out_s(self, now_s: float) -> float:
        """Return how long it is out, 0 for one that came or was not taken."""
        return 0.0 if self.received_s is not None or self.refused is not None else now_s - self.sent_s


@dataclass(frozen=True, slots=True)
class Patience:
    """From when on a probe event is late, and lost (seconds)."""

    period_s: float
    late_s: float
    lost_s: float


def phase_of(shots: Sequence[Shot], now_s: float, patience: Patience) -> tuple[ProbePhase, str]:
    """Return the state of the probe, and what is to be said of it.

    What was lost is told as long as it is remembered, though others came since: nothing may be.
    """
    answered = [shot for shot in shots if shot.refused is not None or shot.answered_s is not None]
    if answered and answered[-1].refused is not None:
        return "refused", answered[-1].refused
    lost = [shot for shot in shots if shot.out_s(now_s) > patience.lost_s]
    if lost:
        at = datetime.fromtimestamp(lost[-1].sent_s, UTC).isoformat()
        return "lost", f"{len(lost)} 个未到，最近一个发于 {at} (never came)"
    overdue = [shot for shot in shots if shot.out_s(now_s) > patience.late_s]
    if overdue:
        where = "网关没有应答" if overdue[0].answered_s is None else "网关已收，尚未送达"
        return "late", f"{where}，已 {overdue[0].out_s(now_s):.0f} 秒 (out for so many seconds)"
    came = [shot for shot in shots if shot.received_s is not None]
    if not came:
        return "starting", ""
    newest = max(came, key=lambda shot: shot.sent_s)
    if (newest.took_s or 0.0) > patience.late_s:
        return "late", f"用了 {newest.took_s:.1f} 秒 (it took so many seconds)"
    return "ok", ""


class Probe:
    """Keeps the probe events of the window. Times are seconds since the epoch, all of one machine's clock."""

    def __init__(self, patience: Patience, began: datetime) -> None:
        self._patience = patience
        self._shots: OrderedDict[str, Shot] = OrderedDict()
        self._clock_ahead_s = 0.0
        self._lock = threading.Lock()
        self._phase: tuple[ProbePhase, str] = ("starting", began.isoformat())

    def sent(self, event_id: str, at_s: float) -> None:
        """Note that one is being sent."""
        with self._lock:
            self._shots[event_id] = Shot(event_id, at_s)
            while self._shots and (
                len(self._shots) > MOST or next(iter(self._shots.values())).sent_s < at_s - WINDOW_S
            ):
                self._shots.popitem(last=False)

    def answered(self, event_id: str, at_s: float) -> None:
        """Note that the gateway took it."""
        with self._lock:
            if event_id in self._shots:
                self._shots[event_id].answered_s = at_s

    def refused(self, event_id: str, why: str) -> None:
        """Note that the gateway did not take it, or could not be reached."""
        with self._lock:
            if event_id in self._shots:
                self._shots[event_id].refused = why

    def forget(self, event_id: str) -> None:
        """Forget one that was not taken."""
        with self._lock:
            self._shots.pop(event_id, None)

    def received(self, event_id: str, at_s: float, recorded_s: float | None) -> None:
        """Note that it came, and when the gateway says that it took it; a second time changes nothing."""
        with self._lock:
            shot = self._shots.get(event_id)
            if shot is None or shot.received_s is not None:
                return
            # One whose answer got lost was taken all the same.
            shot.received_s, shot.refused = at_s, None
            if recorded_s is not None:
                self._clock_ahead_s = _ahead(recorded_s, shot.sent_s, at_s)

    def lag(self, now: datetime) -> ProbeLag:
        """Return how the probe stands."""
        with self._lock:
            shots, now_s = list(self._shots.values()), now.timestamp()
            phase, detail = phase_of(shots, now_s, self._patience)
            if self._phase[0] != phase:
                self._phase = (phase, now.isoformat())
            came = [shot for shot in shots if shot.received_s is not None]
            newest = max(came, key=lambda shot: shot.sent_s, default=None)
            ways = sorted(_ms(shot.took_s) or 0.0 for shot in came)
            return ProbeLag(
                state=phase,
                state_since=self._phase[1],
                detail=detail,
                period_s=self._patience.period_s,
                last_at=datetime.fromtimestamp(newest.received_s or 0.0, UTC).isoformat() if newest else None,
                last_ms=_ms(newest.took_s) if newest else None,
                gateway_ms=_ms(newest.answered_s - newest.sent_s) if newest and newest.answered_s else None,
                p50_ms=percentile(ways, 0.50),
                p95_ms=percentile(ways, 0.95),
                p99_ms=percentile(ways, 0.99),
                sent=len(shots),
                received=len(came),
                lost=sum(shot.out_s(now_s) > self._patience.lost_s for shot in shots),
                refused=sum(shot.refused is not None for shot in shots),
                clock_ahead_s=round(self._clock_ahead_s, 3),
            )


def _ahead(recorded_s: float, sent_s: float, received_s: float) -> float:
    """Return how far a clock is ahead that stamped something between two moments; 0 where that is possible."""
    return max(0.0, recorded_s - received_s) - max(0.0, sent_s - recorded_s)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
