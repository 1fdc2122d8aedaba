"""A small chart of bars over time: places and heights from numbers, pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.ledger.flowing import Slot

WIDTH, HEIGHT, FOOT = 720, 120, 18
GAP = 0.25
"""The part of a bar's room that stays empty."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time and where its bars stand: ``top`` is the delivered's, ``parked_top`` that of the parked."""

    at: datetime
    x: float
    width: float
    top: float
    height: float
    parked_top: float
    parked_height: float
    delivered: int
    parked: int


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything to draw; ``most`` is what the highest bar stands for."""

    width: int
    height: int
    base: int
    bars: Sequence[Bar]
    most: int
    total: int


def chart(slots: Sequence[Slot], since: datetime, count: int, slot_s: int) -> Chart:
    """Return the chart of so many stretches of time; one in which nothing came has bars without height."""
    known = {round((slot.at - since).total_seconds() / slot_s): slot for slot in slots}
    base, step = HEIGHT - FOOT, WIDTH / count
    most = max((slot.delivered + slot.parked for slot in slots), default=0)
    bars = []
    for place in range(count):
        slot = known.get(place) or Slot(since + timedelta(seconds=place * slot_s), 0, 0)
        delivered, parked = (round((base - 6) * n / most, 1) if most else 0.0 for n in (slot.delivered, slot.parked))
        bars.append(
            Bar(
                slot.at,
                round(place * step + step * GAP / 2, 1),
                round(step * (1 - GAP), 1),
                round(base - delivered, 1),
                delivered,
                round(base - delivered - parked, 1),
                parked,
                slot.delivered,
                slot.parked,
            )
        )
    return Chart(WIDTH, HEIGHT, base, bars, most, sum(slot.delivered for slot in slots))
