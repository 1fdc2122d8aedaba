"""Working days by the State Council's yearly notice, as data: a day without data is an error, never a guess.

Source: domain rule 11. Each year's notice comes late in the year before; ``data/working_days.csv`` is then replaced.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from functools import cache, lru_cache
from pathlib import Path

from schemas.times import SHANGHAI

CALENDAR_FILE = Path(__file__).parent / "data" / "working_days.csv"


class CalendarEndsError(Exception):
    """The calendar holds no data for a day."""


@cache
def calendar() -> Mapping[date, bool]:
    """Return every known day, and whether it is a working day."""
    with CALENDAR_FILE.open(encoding="utf-8", newline="") as file:
        return {date.fromisoformat(row["date"]): row["is_working_day"] == "true" for row in csv.DictReader(file)}


def is_working_day(day: date) -> bool:
    """Tell whether a day is a working day; raises CalendarEndsError."""
    known = calendar().get(day)
    if known is None:
        raise CalendarEndsError(
            f"工作日数据没有 {day}，请更新 {CALENDAR_FILE.name} (the calendar does not reach {day})"
        )
    return known


def add_working_days(day: date, count: int) -> date:
    """Return the day that many working days later; the day itself is day 0. Raises CalendarEndsError."""
    found, left = day, count
    while left > 0:
        found += timedelta(days=1)
        left -= is_working_day(found)
    return found


def last_day(published: datetime, limit: int) -> date:
    """Return the last day of a limit in working days that began with this moment's day in Shanghai, day 0.

    Raises CalendarEndsError.
    """
    return _last_day(published.astimezone(SHANGHAI).date(), limit)


def due_at(published: datetime, limit: int) -> datetime:
    """Return the moment when such a limit has passed: midnight after its last day. Raises CalendarEndsError."""
    return datetime.combine(last_day(published, limit) + timedelta(days=1), time(), SHANGHAI)


@lru_cache(maxsize=1024)
def _last_day(day: date, limit: int) -> date:
    return add_working_days(day, limit)
