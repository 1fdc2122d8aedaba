"""What the page of a grant shows: what was changed by whom, what its reader may do, and days without events too."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from services.identity.people import Person
from services.portal.web.grant_views import actions_of, bars, expires_soon, history_of, last_month
from services.subscriptions.lifecycle import Actor

NOW = datetime(2026, 1, 15, tzinfo=UTC)
ZHANG = Actor(Person("zhang", "张三", agency="market"), administrator=False)
LI = Actor(Person("li", "李四", department="health", approves=["a"]), administrator=False)
BOTH = Actor(Person("both", "赵六", agency="market", department="health", approves=["a"]), administrator=False)
ADMINISTRATOR = Actor(None, administrator=True)


def row(state: str, *applied: str, valid_until: str | None = "2099-01-01T00:00:00+08:00") -> dict[str, Any]:
    """Return a grant in a state, applied for by these."""
    decisions = [{"action": "submit", "decided_by": name} for name in applied]
    times = {"valid_from": None, "valid_until": valid_until}
    return {"agency": "market", "types": ["a"], "state": state, "decisions": decisions, **times}


def test_what_somebody_may_do_follows_from_who_they_are_and_how_it_stands() -> None:
    """The applicant submits, another one of the owner's approves, the administrator suspends; nobody else."""
    assert actions_of(row("draft"), ZHANG, NOW) == ["edit", "submit", "terminate"]
    assert actions_of(row("submitted", "zhang"), LI, NOW) == ["return", "approve", "terminate"]
    assert "approve" not in actions_of(row("submitted", "both"), BOTH, NOW)
    assert actions_of(row("active"), ADMINISTRATOR, NOW) == ["suspend", "terminate"]
    assert actions_of(row("suspended"), LI, NOW) == ["resume", "terminate"]
    assert actions_of(row("terminated"), LI, NOW) == []


def test_each_decision_is_shown_with_what_it_changed() -> None:
    """The newest first; a decision that changes the state alone has no differences."""
    decided = {"decided_by": "zhang", "entered_by": "zhang", "reason": "r", "decided_at": "2026-01-01T00:00:00+08:00"}
    decisions = [{"version": n, "action": a, **decided} for n, a in ((1, "draft"), (2, "edit"), (3, "submit"))]
    versions = {n: {"scope": scope} for n, scope in ((1, "本级"), (2, "全省"), (3, "全省"))}
    steps = history_of(decisions, versions)
    assert [(one.action, [c.after for c in one.changes]) for one in steps] == [
        ("submit", []),
        ("edit", ["全省"]),
        ("draft", []),
    ]


def test_a_day_without_events_is_seen_to_have_none() -> None:
    """Every day of the period, its end left out."""
    assert bars({"2025-12-02": 3}, date(2025, 12, 1), date(2025, 12, 4)) == [
        ("2025-12-01", 0),
        ("2025-12-02", 3),
        ("2025-12-03", 0),
    ]
    assert last_month(date(2026, 1, 15)) == ("2025-12-01", "2026-01-01")


def test_a_grant_that_ends_soon_is_told() -> None:
    """Within thirty days, and only while it is in force."""
    assert expires_soon(row("active", valid_until="2026-02-01T00:00:00+08:00"), NOW)
    assert not expires_soon(row("active"), NOW)
    assert not expires_soon(row("draft", valid_until="2026-02-01T00:00:00+08:00"), NOW)
