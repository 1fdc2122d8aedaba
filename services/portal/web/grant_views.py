"""What the pages of subscriptions show: lists that are filtered, versions with what changed, and what may be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from schemas.contracts import Contracts, walk_fields
from schemas.labels import label_of
from services.portal.differences import Difference, grant_differences
from services.routing.fields import FieldPolicy, Outcome
from services.subscriptions.lifecycle import Action, Actor, Standing, possible

DECIDED: tuple[Action, ...] = ("submit", "return", "approve", "suspend", "resume", "terminate")
"""The actions that are taken with a reason on a grant's own page, in the order in which they are offered."""
EXPIRING = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which grants to list."""

    state: str | None = None
    type: str | None = None
    agency: str | None = None

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Tell whether a grant is among those."""
        return (
            self.state in {None, row["state"]}
            and self.agency in {None, row["agency"]}
            and (self.type is None or self.type in row["types"])
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One decision on a grant, with what it changed of what the grant says."""

    version: int
    action: str
    decided_by: str
    entered_by: str
    reason: str
    at: str
    changes: Sequence[Difference]


@dataclass(frozen=True, slots=True)
class FieldRow:
    """What becomes of one field of a type."""

    path: str
    label: str
    sensitivity: str
    outcome: Outcome


def history_of(decisions: Sequence[Mapping[str, Any]], versions: Mapping[int, Mapping[str, Any]]) -> list[Step]:
    """Return the decisions, the newest first, each with what it changed against the version before."""
    steps = []
    for one in decisions:
        before, after = versions.get(one["version"] - 1), versions.get(one["version"])
        changes = grant_differences(before, after) if before is not None and after is not None else []
        steps.append(
            Step(
                one["version"],
                one["action"],
                one["decided_by"],
                one["entered_by"],
                one["reason"],
                one["decided_at"],
                changes,
            )
        )
    return steps[::-1]


def actions_of(row: Mapping[str, Any], actor: Actor, now: datetime) -> list[Action]:
    """Return what somebody may do with a grant now."""
    applied = {one["decided_by"] for one in row["decisions"] if one["action"] in {"draft", "edit", "submit"}}
    times = (_time(row["valid_from"]), _time(row["valid_until"]))
    standing = Standing(row["agency"], row["types"], row["state"], *times, applied)
    return possible(standing, actor, now)


def field_rows(
    contracts: Contracts, types: Sequence[str], fields: Mapping[str, Any] | None
) -> dict[str, list[FieldRow]]:
    """Return what becomes of every field of each type, by the type."""
    policy = FieldPolicy.of(fields) if fields is not None else None
    return {
        name: [
            FieldRow(
                path,
                label_of(field["doc"]) or path,
                field["sensitivity"],
                policy.outcome(path, field["sensitivity"]) if policy else "show",
            )
            for path, field in walk_fields(contracts.types[name].schema)
        ]
        for name in types
        if name in contracts.types
    }


def expires_soon(row: Mapping[str, Any], now: datetime) -> bool:
    """Tell whether a grant in force ends within thirty days."""
    until = _time(row["valid_until"])
    return row["state"] in {"approved", "active"} and until is not None and until - now < EXPIRING


def last_month(today: date) -> tuple[str, str]:
    """Return the days that a dry run is offered for: the last whole month, its end left out."""
    end = today.replace(day=1)
    start = (end - timedelta(days=1)).replace(day=1)
    return start.isoformat(), end.isoformat()


def bars(days: Mapping[str, int], since: date, until: date) -> list[tuple[str, int]]:
    """Return every day of a period with its count, so that days without any are seen to have none."""
    found: list[tuple[str, int]] = []
    day = since
    while day < until and len(found) < 400:
        found.append((day.isoformat(), days.get(day.isoformat(), 0)))
        day += timedelta(days=1)
    return found


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
