"""How fast the error budget of on-time delivery burns, over several windows at once.

Source: *The Site Reliability Workbook*, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts" (table 5-8): with an objective
of 99.9 % over 30 days, a burn rate of 14.4 over an hour spends 2 % of the budget, 6 over six hours 5 %, 1 over three
days 10 %. The long window makes an alert significant, the short one makes it end soon after the trouble does. The same
chapter on services with little traffic: a few late deliveries of few are no burn, so a least count holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.runtime.alerts import Severity

HOUR_S = 3600
FINE_S, FINE_KEPT_S = 60, HOUR_S + 120
COARSE_S, COARSE_KEPT_S = 600, 72 * HOUR_S + 1200


@dataclass(frozen=True, slots=True)
class Pair:
    """Two windows (seconds) in which the budget must burn at this rate at least."""

    long_s: int
    short_s: int
    rate: float
    severity: Severity


PAIRS: Sequence[Pair] = (
    Pair(HOUR_S, 300, 14.4, "critical"),
    Pair(6 * HOUR_S, 1800, 6.0, "critical"),
    Pair(72 * HOUR_S, 6 * HOUR_S, 1.0, "warning"),
)


@dataclass(frozen=True, slots=True)
class Deliveries:
    """How many were taken, and how many of them late."""

    taken: int = 0
    late: int = 0

    def __add__(self, more: Deliveries) -> Deliveries:
        return Deliveries(self.taken + more.taken, self.late + more.late)


@dataclass(frozen=True, slots=True)
class Burning:
    """What burns: the windows, the rate over the long one, and the deliveries in it."""

    pair: Pair
    rate: float
    seen: Deliveries


class Buckets:
    """Counts by slices of time; a window begins on a slice."""

    def __init__(self, slice_s: int, kept_s: int) -> None:
        self._slice_s = slice_s
        self._kept_s = kept_s
        self.counts: dict[int, Deliveries] = {}

    def add(self, now_s: float, more: Deliveries) -> None:
        """Count at a moment, and forget what is too old, or ahead (the clock went back)."""
        slot = int(now_s // self._slice_s)
        if more.taken or more.late:
            self.counts[slot] = self.counts.get(slot, Deliveries()) + more
        oldest = int((now_s - self._kept_s) // self._slice_s)
        for gone in [one for one in self.counts if not oldest <= one <= slot]:
            del self.counts[gone]

    def within(self, now_s: float, window_s: int) -> Deliveries:
        """Return what was counted in a window up to now."""
        newest = int(now_s // self._slice_s)
        first = newest - window_s // self._slice_s
        return sum((held for slot, held in self.counts.items() if first < slot <= newest), Deliveries())


class Ledger:
    """The deliveries of one agency, or of all, from totals that rise and begin anew with the process that counts."""

    def __init__(self) -> None:
        self._fine = Buckets(FINE_S, FINE_KEPT_S)
        self._coarse = Buckets(COARSE_S, COARSE_KEPT_S)
        self._last: Deliveries | None = None

    def total(self, now: datetime, total: Deliveries) -> Deliveries:
        """Take in the newest totals and return what they add; the first ever seen add nothing."""
        last, self._last = self._last, total
        if last is None:
            return self.add(now, Deliveries())
        began_anew = total.taken < last.taken or total.late < last.late
        return self.add(now, total if began_anew else Deliveries(total.taken - last.taken, total.late - last.late))

    def add(self, now: datetime, more: Deliveries) -> Deliveries:
        """Count these at this moment, and return them."""
        for buckets in (self._fine, self._coarse):
            buckets.add(now.timestamp(), more)
        return more

    def within(self, now: datetime, window_s: int) -> Deliveries:
        """Return what was delivered in a window up to now."""
        buckets = self._fine if window_s <= HOUR_S else self._coarse
        return buckets.within(now.timestamp(), window_s)

    def to_json(self) -> dict[str, object]:
        """Return everything, to be taken up again after a restart."""
        last = [self._last.taken, self._last.late] if self._last is not None else None
        return {"last": last, "fine": _plain(self._fine), "coarse": _plain(self._coarse)}

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> Ledger:
        """Take up what was kept; raises TypeError, KeyError or ValueError for what is none."""
        found = cls()
        last = document["last"]
        if isinstance(last, list):
            found._last = Deliveries(*last)
        for buckets, kept in ((found._fine, document["fine"]), (found._coarse, document["coarse"])):
            if not isinstance(kept, list):
                raise TypeError("a list of counts is needed")
            buckets.counts = {int(slot): Deliveries(int(taken), int(late)) for slot, taken, late in kept}
        return found


def _plain(buckets: Buckets) -> list[list[int]]:
    return [[slot, held.taken, held.late] for slot, held in buckets.counts.items()]


def burning(
    ledger: Ledger, overdue: int, share: float, least: int, now: datetime, pairs: Iterable[Pair] = PAIRS
) -> Burning | None:
    """Return the gravest pair of windows that burns, None when none does.

    ``overdue`` events wait beyond the objective now and count as late in every window: who gets nothing is not on time.
    """
    waiting = Deliveries(overdue, overdue)
    for pair in pairs:
        long, short = (ledger.within(now, window_s) + waiting for window_s in (pair.long_s, pair.short_s))
        rates = [_rate(seen, share) for seen in (long, short)]
        if long.late >= least and min(rates) >= pair.rate:
            return Burning(pair, rates[0], long)
    return None


def _rate(seen: Deliveries, share: float) -> float:
    return seen.late / seen.taken / (1.0 - share) if seen.taken else 0.0
