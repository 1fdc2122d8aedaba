"""Days on which the windows are open: by the State Council's calendar where it is known, else weekdays."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path

import schemas

CALENDAR_FILE = Path(next(iter(schemas.__path__))) / "data" / "working_days.csv"


def is_working_day(day: date) -> bool:
    """Tell whether windows are open. A simulation may guess a year without data; a deadline never may."""
    known = _calendar().get(day)
    return day.weekday() < 5 if known is None else known


@cache
def _calendar() -> Mapping[date, bool]:
    with CALENDAR_FILE.open(encoding="utf-8", newline="") as file:
        return {date.fromisoformat(row["date"]): row["is_working_day"] == "true" for row in csv.DictReader(file)}
