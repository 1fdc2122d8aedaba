"""Values of other people's databases: as plain JSON for mapping and digests, and packed so that they come back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson

from producers.department.database import OutOfRange
from services.runtime.errors import UnavailableError

LONGEST_SHOWN = 1000
_BIT_BYTES = 8
# What JSON is read and written with here takes whole numbers of 64 bits.
_LEAST, _BEYOND = -(2**63), 2**64
_UNPACK: Mapping[str, Callable[[str], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "decimal": Decimal,
    "uuid": UUID,
    "bytes": bytes.fromhex,
}


def plain(value: object) -> Any:  # noqa: ANN401  (JSON)
    """Return a column's value as JSON: times in ISO 8601 as they stand, whole decimals as int, other ones as text.

    A number that JSON has no room for, or that is none, is text too: the field that it is for will say what is wrong.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if _LEAST <= value < _BEYOND else f"{Decimal(value):f}"
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return _text_or_bits(bytes(value))
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return str(value)


def _number(value: Decimal) -> int | str:
    if not value.is_finite() or value != value.to_integral_value():
        return str(value)
    return int(value) if _LEAST <= value < _BEYOND else f"{value.to_integral_value():f}"


def _text_or_bits(value: bytes) -> str | int:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = None
    if text is not None and text.isprintable():
        return text
    return int.from_bytes(value) if len(value) <= _BIT_BYTES else value.hex()  # MySQL's BIT


def shortened(value: Any) -> Any:  # noqa: ANN401  (JSON)
    """Return a value of a row as far as people need it to find what is wrong."""
    try:
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # JSON that is nested too deep to be written again
        value = text = str(value)
    return value if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}… ({len(text)})"


class UnusableTypeError(UnavailableError):
    """A key or cursor has a type that can't be kept; it is tried again, since query or mapping may be mended."""


def pack(value: object) -> Any:  # noqa: ANN401  (JSON)
    """Return a key's or cursor's value as JSON from which :func:`unpack` makes the same again."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, datetime):
        return {"datetime": value.isoformat()}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    if isinstance(value, UUID):
        return {"uuid": str(value)}
    if isinstance(value, bytes | bytearray):
        return {"bytes": bytes(value).hex()}
    raise UnusableTypeError(f"这一类型的列不能作键或游标 (can't be a key or cursor): {type(value).__name__}")


def unpack(packed: Any) -> Any:  # noqa: ANN401  (what was packed)
    """Return what was packed."""
    if not isinstance(packed, dict):
        return packed
    ((kind, text),) = packed.items()
    return _UNPACK[kind](text)


def usable(cursor: Any, text_format: str | None) -> bool:  # noqa: ANN401  (a cursor)
    """Tell whether a cursor says how far the table has come: not one without a value, nor a time that can't be read."""
    if isinstance(cursor, str) and text_format is not None:
        try:
            datetime.strptime(cursor, text_format)
        except ValueError:
            return False
    return cursor is not None and not isinstance(cursor, OutOfRange)


def earlier(cursor: Any, overlap: float, text_format: str | None) -> Any:  # noqa: ANN401  (a cursor)
    """Return the cursor value that lies ``overlap`` before: seconds of a time, whole days of a date, else units."""
    if isinstance(cursor, datetime):
        return _moved_back(cursor, timedelta(seconds=overlap))
    if isinstance(cursor, date):
        return _moved_back(cursor, timedelta(days=-(-overlap // 86_400)))
    if isinstance(cursor, str):
        if text_format is None:
            return cursor
        return _moved_back(datetime.strptime(cursor, text_format), timedelta(seconds=overlap)).strftime(text_format)
    if isinstance(cursor, bytes):  # a row version, counted big-endian
        return max(0, int.from_bytes(cursor) - int(overlap)).to_bytes(len(cursor))
    return cursor - type(cursor)(overlap)


def _moved_back(moment: date, by: timedelta) -> date:
    try:
        return moment - by
    except OverflowError:
        return moment  # nothing lies before the year 1


def not_after(cursor: Any, now: datetime, zone: ZoneInfo, text_format: str | None) -> Any:  # noqa: ANN401
    """Return the cursor, or now where that is before: one bad clock must not hide all rows to come."""
    local = now.astimezone(zone)
    if isinstance(cursor, datetime):
        return min(cursor, now if cursor.tzinfo else local.replace(tzinfo=None))
    if isinstance(cursor, date):
        return min(cursor, local.date())
    if isinstance(cursor, str) and text_format is not None:
        return min(cursor, local.strftime(text_format))
    return cursor
