"""Until when the law lets something be done: working days from the day on which it happened."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from schemas.times import SHANGHAI
from schemas.working_days import CalendarEndsError, add_working_days


@dataclass(frozen=True, slots=True)
class Deadline:
    """A legal deadline, or why there is none."""

    day: date | None
    why: str | None = None


def deadline_of(at: datetime | None, days: int | None) -> Deadline:
    """Return the last day on which something may still be done, so many working days after it happened."""
    if days is None:
        return Deadline(None, "目录没有时限 (the catalogue sets none)")
    if at is None:
        return Deadline(None, "事件没有时间 (the event bears no time)")
    try:
        return Deadline(add_working_days(at.astimezone(SHANGHAI).date(), days))
    except CalendarEndsError as error:
        return Deadline(None, str(error))  # never a guessed one
