"""The identity of cases: opening + accepted - withdrawn - completed = closing, per department and month.

A case that ends without an acceptance on file was accepted before the log began, or nobody said so: it is counted with
the opening stock, in a column of its own. Stock is told case by case and flows cell by cell, so that the identity fails
where cases move: one that another department completes, that ends twice, or that ends before its acceptance's month.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from services.statistics.departments import Units
from services.statistics.facts import kind_of
from services.statistics.figure import Month
from services.statistics.naming import event_types
from services.statistics.store import read_sql


@dataclass(frozen=True, slots=True)
class Balance:
    """One department's month."""

    department: str
    opening: int
    unregistered: int
    accepted: int
    withdrawn: int
    completed: int
    closing: int

    @property
    def difference(self) -> int:
        """Return by how much the identity fails; 0 when it holds."""
        return self.opening + self.unregistered + self.accepted - self.withdrawn - self.completed - self.closing


def balances(connection: psycopg.Connection, units: Units, month: Month) -> list[Balance]:
    """Return every department's balance of a month, in the units of that month."""
    values = _values(month)
    sums: dict[str, Tally[str]] = {}
    for column, department, count in connection.execute(read_sql("balance"), values):
        unit = units.unit(department or "", month.number)
        sums.setdefault(unit, Tally())[column] += count
    names = ("opening", "unregistered", "accepted", "withdrawn", "completed", "closing")
    return [Balance(unit, *(found[name] for name in names)) for unit, found in sorted(sums.items())]


def moved_cases(connection: psycopg.Connection, units: Units, month: Month, limit: int = 20) -> Sequence[str]:
    """Return the case numbers for which an identity may fail, with the departments: a few of them."""
    found = []
    for case_key, began, ended, endings in connection.execute(read_sql("balance_cases"), _values(month)):
        same = began is not None and units.unit(began, month.number) == units.unit(ended or "", month.number)
        if endings > 1 or not same:
            found.append(f"{case_key}（{began} → {ended}{'，多次办结或撤回' if endings > 1 else ''}）")
        if len(found) == limit:
            break
    return found


def _values(month: Month) -> dict[str, object]:
    first, following = month.bounds
    kinds = {part: kind_of(name) for part, name in event_types()["balance"].items()}
    return {**kinds, "month": month.number, "from": first, "to": following}
