"""Days on which the windows are open: by the State Council's calendar where it is known, else weekdays."""

from __future__ import annotations

from datetime import date

from schemas.working_days import calendar


def is_working_day(day: date) -> bool:
    """Tell whether windows are open. A simulation may guess a year without data; a deadline never may."""
    known = calendar().get(day)
    return day.weekday() < 5 if known is None else known
