"""What makes a record of an event topic an event, before its body is decoded: one rule for everybody who reads it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from schemas.envelope import REQUIRED, header_attributes

MAX_TEXT_BYTES = 2600
"""What an attribute may take that the ledger and receipts say again: what they hold is bounded by it, and an entry of
an index of PostgreSQL, which holds at most 2,704 bytes.
"""
_REPEATED = (*REQUIRED, "follows")
_TIMES = ("time", "recordedtime")
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why a record can never be an event."""

    reason: str


def event_attributes(key: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str] | Unreadable:
    """Return the attributes of a record's event, or why it is none."""
    try:
        attributes = header_attributes(headers)
    except UnicodeDecodeError as error:
        return Unreadable(f"a CloudEvents header is not UTF-8: {error}")
    problem = _problem(attributes)
    if problem is None and (key is None or key != attributes["subject"].encode()):
        problem = "the record key is not the business key (subject), so its order is not kept"
    return attributes if problem is None else Unreadable(problem)


def _problem(attributes: Mapping[str, str]) -> str | None:
    for name in REQUIRED:
        if not attributes.get(name):
            return f"CloudEvents attribute missing: {name}"
    for name in _REPEATED:
        text = attributes.get(name, "")
        if "\0" in text:
            return f"CloudEvents attribute {name} holds the character NUL"
        if too_long(text):
            return f"CloudEvents attribute {name} takes more than {MAX_TEXT_BYTES} bytes"
    for name in _TIMES:
        if name in attributes and not is_time(attributes[name]):
            return f"CloudEvents attribute {name} is not RFC 3339 with an offset: {attributes[name]!r}"
    return None


def too_long(text: str) -> bool:
    """Tell whether text is longer than an attribute may be that is said again elsewhere."""
    return len(text) > MAX_TEXT_BYTES // 4 and len(text.encode()) > MAX_TEXT_BYTES


def control_character(text: str) -> bool:
    """Tell whether text holds what no attribute may (CloudEvents 1.0.2 §2.1, String): a control or half a pair."""
    return _CONTROL.search(text) is not None


def is_time(text: str) -> bool:
    """Tell whether text is a date and time of RFC 3339: whoever reads it later need not guess its offset."""
    if not _RFC_3339.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return False
    return True
