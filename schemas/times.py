"""Times as events carry them: RFC 3339 with an offset; without one, Shanghai wall time is assumed and marked.

Source: domain rule 10.4. Zone data is used and not a fixed +08:00, because 1986–1991 had summer time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from functools import lru_cache
from zoneinfo import ZoneInfo

SHANGHAI = ZoneInfo("Asia/Shanghai")
# In an address a plus that isn't written %2B arrives as a space.
LOST_PLUS = re.compile(r"(:\S+) (\d\d:?\d\d)$")


@lru_cache(maxsize=4096)
def parse_time(text: str) -> tuple[datetime, bool]:
    """Return the aware time and whether its offset was assumed; a date alone is that day's midnight in Shanghai.

    Raises ValueError for text that is no time.
    """
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"不是时间 (not an ISO 8601 time): {text!r}") from None
    if found.tzinfo is None:
        return found.replace(tzinfo=SHANGHAI), True
    return found, False


def asked_time(text: str) -> datetime:
    """Return the time that an address asks for, also where its offset has lost its plus; raises ValueError."""
    return parse_time(LOST_PLUS.sub(r"\1+\2", text))[0]


def shown_time(text: str) -> str:
    """Return a time as people here read it: in Shanghai, to the second. What is no time with an offset stays."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text
    return at.astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M:%S") if at.tzinfo is not None else text


def is_rfc_3339(at: datetime) -> bool:
    """Tell whether an aware time can be written by RFC 3339, in any offset: whole minutes, and a day that UTC has."""
    offset = at.utcoffset()
    return (
        offset is not None and not offset.seconds % 60 and not offset.microseconds and 1 < at.year < datetime.max.year
    )


def happened(attributes: Mapping[str, str], recorded_ms: int) -> datetime:
    """Return when an event happened; where its time can't be read, when it was put on the log (ms since the epoch)."""
    try:
        return parse_time(attributes.get("time", ""))[0]
    except ValueError:
        return datetime.fromtimestamp(recorded_ms / 1000, UTC)


def month_bounds(year: int, month: int) -> tuple[datetime, datetime]:
    """Return a Shanghai calendar month as a closed-open pair of UTC times (domain rule 10.4)."""
    start = datetime.combine(date(year, month, 1), time(), SHANGHAI)
    following = date(year + month // 12, month % 12 + 1, 1)
    return start.astimezone(UTC), datetime.combine(following, time(), SHANGHAI).astimezone(UTC)
