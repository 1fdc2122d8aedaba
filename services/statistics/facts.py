"""From an event to a fact: pure, and by the contract alone."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from hashlib import blake2b
from typing import Any

import orjson

from schemas.envelope import identity
from schemas.reading import too_long
from schemas.times import SHANGHAI
from services.statistics.shapes import Shape

FIRST_YEAR = 2000


@dataclass(frozen=True, slots=True)
class Cell:
    """What the facts of one type and source have in common: the values of their dimensions."""

    id: int
    kind: int
    type: str
    source: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact: the event's identity, the case it counts for, and where it stands on the log.

    ``follows`` is the identity of the event that it corrects; ``detail`` is JSON text.
    """

    identity: uuid.UUID
    digest: uuid.UUID
    month: int
    cell: Cell
    case_id: uuid.UUID
    event_id: str
    case_key: str
    occurred_at: datetime
    recorded_at: datetime
    follows: uuid.UUID | None
    marks: str | None
    detail: str
    place: tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Deletion:
    """A tombstone: the event that ``target`` names counts no more."""

    identity: uuid.UUID
    target: uuid.UUID
    recorded_at: datetime
    place: tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose event it is, and when the platform accepted it."""

    source: str
    event_id: str
    subject: str
    follows: str | None
    recorded_at: datetime

    def identity(self) -> uuid.UUID:
        """Return what stands for the event."""
        return uuid.UUID(bytes=identity(self.source, self.event_id, self.subject))

    def followed(self) -> uuid.UUID | None:
        """Return what stands for the event that it follows: of the same source and business key, as when routed."""
        return uuid.UUID(bytes=identity(self.source, self.follows, self.subject)) if self.follows else None


def case_of(source: str, case_key: str) -> uuid.UUID:
    """Return what stands for a case: a digest of whose it is and of its business key."""
    return uuid.UUID(bytes=blake2b(f"{source}\0{case_key}".encode(), digest_size=16).digest())


def kind_of(event_type: str) -> int:
    """Return the number that stands for an event type in the store: 32 bits of its digest."""
    return int.from_bytes(blake2b(event_type.encode(), digest_size=4).digest(), "big", signed=True)


def month_number(at: datetime) -> int:
    """Return the Shanghai month of an instant as a number like 202512."""
    local = at.astimezone(SHANGHAI)
    return local.year * 100 + local.month


class FactMaker:
    """Makes the facts of one event type. Cells are made once and handed out again."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._kind = kind_of(shape.type)
        self._cells: dict[tuple[object, ...], Cell] = {}

    def fact(
        self, origin: Origin, case_key: str, data: Mapping[str, Any], digest: uuid.UUID, place: tuple[str, int, int]
    ) -> Fact:
        """Return the fact of one event's data; raises KeyError, TypeError or ValueError that names what is wrong."""
        occurred_at = _instant(data[self._shape.time_field], self._shape.time_field)
        if occurred_at.year < FIRST_YEAR:
            raise ValueError(f"{self._shape.time_field} is {occurred_at.isoformat()}")
        check_storable(origin, case_key)
        detail = {name: value for name in self._shape.details if (value := data.get(name)) is not None}
        quality = data.get("quality")
        return Fact(
            identity=origin.identity(),
            digest=digest,
            month=month_number(occurred_at),
            cell=self._cell(origin.source, data),
            case_id=case_of(origin.source, case_key),
            event_id=origin.event_id,
            case_key=case_key,
            occurred_at=occurred_at,
            recorded_at=origin.recorded_at,
            follows=origin.followed(),
            marks=",".join(quality) if quality else None,
            detail=_json(detail) if detail else "{}",
            place=place,
        )

    def _cell(self, source: str, data: Mapping[str, Any]) -> Cell:
        values = (source, *(data.get(name) for name in self._shape.dimensions))
        found = self._cells.get(values)
        if found is None:
            held = {name: data[name] for name in self._shape.dimensions if data.get(name) is not None}
            text = _json({"type": self._shape.type, "source": source, "data": held}, sort=True)
            number = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)
            found = self._cells[values] = Cell(number, self._kind, self._shape.type, source, held)
        return found


def check_storable(origin: Origin, case_key: str) -> None:
    """Raise ValueError where texts can't be stored."""
    keys: Collection[str] = (origin.event_id, case_key, origin.follows or "")
    if any("\0" in text for text in (origin.source, *keys)):
        raise ValueError("a text holds the character NUL")
    if any(too_long(key) for key in keys):
        raise ValueError("id or business key is too long")


def _instant(value: object, name: str) -> datetime:
    """Return a time; a day is its midnight in Shanghai (domain rule 10.4)."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=SHANGHAI)
    if isinstance(value, date):
        return datetime.combine(value, time(), SHANGHAI)
    raise TypeError(f"{name} is no time")


def _json(value: Mapping[str, Any], *, sort: bool = False) -> str:
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort else None).decode()
    if "\\u0000" in text:
        raise ValueError("a text holds the character NUL")
    return text
