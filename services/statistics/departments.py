"""Departments merge and change their names: from a month on a code is reported as another unit. Old months stay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import psycopg

from schemas.formats import divisions
from services.runtime.errors import ConflictError, FieldProblem, InvalidError
from services.statistics.figure import Month
from services.statistics.store import read_sql

DEPARTMENT = "department_code"


@dataclass(frozen=True, slots=True)
class UnitChange:
    """From ``valid_from`` on, ``code`` is reported as this unit."""

    code: str
    valid_from: int
    unit_code: str
    unit_name: str


class Units:
    """Which unit each department code is reported as in a month."""

    def __init__(self, changes: Iterable[UnitChange]) -> None:
        self._changes: dict[str, list[UnitChange]] = {}
        for change in sorted(changes, key=lambda one: one.valid_from):
            self._changes.setdefault(change.code, []).append(change)

    @classmethod
    def load(cls, connection: psycopg.Connection) -> Units:
        """Read the changes."""
        return cls(UnitChange(*row) for row in connection.execute(read_sql("units")))

    def unit(self, code: str, month: int) -> str:
        """Return the unit's code: changes are followed, and a circle ends where it began."""
        seen = {code}
        while (change := self._holding(code, month)) is not None and change.unit_code not in seen:
            code = change.unit_code
            seen.add(code)
        return code

    def names(self, month: int) -> Mapping[str, str]:
        """Return the names that changes gave to units by then."""
        found = [c for changes in self._changes.values() for c in changes if c.valid_from <= month]
        return {c.unit_code: c.unit_name for c in sorted(found, key=lambda one: one.valid_from)}

    def _holding(self, code: str, month: int) -> UnitChange | None:
        return next((c for c in reversed(self._changes.get(code, [])) if c.valid_from <= month), None)


def change_unit(connection: psycopg.Connection, change: UnitChange, decided_by: str, reason: str) -> None:
    """Record a change; raises InvalidError or ConflictError. A closed month is not touched by it."""
    problems = [
        FieldProblem(f"/{name}", "缺少 (missing)")
        for name, text in (("by", decided_by), ("reason", reason), ("name", change.unit_name))
        if not text.strip()
    ]
    if problems:
        raise InvalidError(problems)
    closed = connection.execute(read_sql("closed_since"), (change.valid_from,)).fetchone()
    if closed is not None:
        month = Month.of_number(closed[0])
        raise ConflictError(f"{month} 已经关账，变更不能早于它之后的月份 (that month is closed; begin after it)")
    values = (change.code, change.valid_from, change.unit_code, change.unit_name, decided_by, reason)
    try:
        connection.execute(read_sql("unit_add"), values)
    except psycopg.errors.UniqueViolation as error:
        raise ConflictError(f"{change.code} 自该月起已有变更 (has a change from that month already)") from error


def label_of(dimension: str, value: str, names: Mapping[str, str]) -> str:
    """Return what people call a dimension's value."""
    if dimension.endswith("division"):
        return divisions().get(value, value)
    return names.get(value, value)
