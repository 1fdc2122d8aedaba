"""How many cases a simulated month has: within the published figures where there are some, else plausible by seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

PUBLISHED_FILE = Path(__file__).with_name("published.json")
_DEFAULT_MONTH = "2025-12"


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
    bounds = published().get(month) or published()[_DEFAULT_MONTH]
    vary = 1.0 if month in published() else random.uniform(0.85, 1.15)

    def draw(metric: str) -> int:
        low, high = int(bounds[metric]["min"]), int(bounds[metric]["max_exclusive"]) - 1
        # Well inside: the hand-made boundary cases come on top of nothing.
        middle = random.randint(low + (high - low) // 4, high - (high - low) // 4)
        return max(1, round(middle * vary * scale))

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
