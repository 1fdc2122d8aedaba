"""How many cases a simulated month has: within the published figures where there are some, else plausible by seed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from schemas.formats import divisions

PUBLISHED_FILE = Path(__file__).with_name("published.json")
_DEFAULT_MONTH = "2025-12"
MONEY = ("亿元", "万元")
FEN = 100


@dataclass(frozen=True, slots=True)
class Targets:
    """Exact counts that a simulated month is made of."""

    online_accepted: int
    online_completed: int
    offline_completed: int
    integrated_window_accepted: int
    window_issued: int
    hall_mailed: int
    consult_phone: int
    consult_onsite: int


@cache
def published() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """Return the published figures by month and metric id: shown value, unit and the bounds of the exact value."""
    months: Mapping[str, Mapping[str, Mapping[str, Any]]] = json.loads(PUBLISHED_FILE.read_text(encoding="utf-8"))[
        "months"
    ]
    return months


def targets(month: str, random: Random, scale: float) -> Targets:
    """Draw a month's counts. Where figures were published and ``scale`` is 1, each lies within its bounds."""
    bounds, vary = _bounds(month), _variation(month, random)

    def draw(metric: str) -> int:
        return max(1, round(_within(bounds[metric], random) * vary * scale))

    online_completed = draw("online_completed")
    room = int(bounds["items_handled"]["max_exclusive"]) - 1 - online_completed if scale == vary == 1 else 200
    return Targets(
        online_accepted=draw("online_accepted"),
        online_completed=online_completed,
        offline_completed=max(1, round(random.randint(room // 4, max(1, room // 2)) * min(1.0, scale))),
        integrated_window_accepted=draw("integrated_window_accepted"),
        window_issued=draw("window_issued"),
        hall_mailed=draw("hall_mailed"),
        consult_phone=draw("consult_phone"),
        consult_onsite=draw("consult_onsite"),
    )


def section_targets(month: str, random: Random, scale: float) -> Mapping[str, int]:
    """Draw the counts, and the sums in fen, behind the other sections' figures, by metric id; rates are not among them.

    In a month without published figures, what counts from January on has a twelfth for each month so far.
    """
    bounds, vary = _bounds(month), _variation(month, random)
    through_year = int(month.partition("-")[2]) / 12
    found = {}
    for metric, bound in bounds.items():
        if bound["unit"] == "%":
            continue
        share = scale * vary * (1.0 if month in published() or bound["period"] != "year_to_date" else through_year)
        most = len(divisions()) - 1 if metric.endswith("_divisions") else None
        found[metric] = max(1, min(round(_within(bound, random) * share), most or sys.maxsize))
    return found


def rate_bounds(month: str, metric: str, random: Random) -> tuple[Decimal, Decimal]:
    """Return the closed-open bounds of a rate: the published ones, else a plausible place of the same width."""
    bound = _bounds(month)[metric]
    low, high = Decimal(bound["min"]), Decimal(bound["max_exclusive"])
    shift = Decimal(0) if month in published() else Decimal(random.randint(-1500, 1000)) / 10_000
    return low + shift, high + shift


def _bounds(month: str) -> Mapping[str, Mapping[str, Any]]:
    return published().get(month) or published()[_DEFAULT_MONTH]


def _variation(month: str, random: Random) -> float:
    return 1.0 if month in published() else random.uniform(0.85, 1.15)


def _within(bound: Mapping[str, Any], random: Random) -> int:
    """Return a value well within its bounds, so that hand-made boundary cases come on top of nothing; money in fen."""
    unit = FEN if bound["unit"] in MONEY else 1
    low, high = int(bound["min"]) * unit, int(bound["max_exclusive"]) * unit - 1
    return random.randint(low + (high - low) // 4, high - (high - low) // 4)
