"""The story of an event, told in the order of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from services.ledger.searching import OPERATOR, Scope
from services.ledger.story import agency_part, moments, told_to

START = datetime(2026, 3, 1, tzinfo=UTC)


def minute(n: int) -> datetime:
    """Return a time."""
    return START + timedelta(minutes=n)


def receipt(outcome: str, first: int | None, at: int, **more: Any) -> dict[str, Any]:
    """Return a receipt."""
    told = {"channel": "webhook", "attempts": 1, "status": None, "reason": None, "words": None, **more}
    return {"outcome": outcome, "first_at": None if first is None else minute(first), "at": minute(at), **told}


def test_every_time_of_an_event_is_a_moment_in_order() -> None:
    """The act, the taking in, the log, the routing, the first attempt, the delivery, the agency's word."""
    event = {
        "occurred_at": minute(0),
        "recorded_at": minute(5),
        "logged_at": minute(6),
        "routed_at": minute(7),
    }
    row = {"agency": "a", "why": "match", "subscriptions": ["s"], "routed_at": minute(7)}
    later = {"agency": "b", "why": "match", "subscriptions": ["t"], "routed_at": minute(30)}
    said = [receipt("accepted", None, 20, attempts=0), receipt("delivered", 8, 12, attempts=3)]
    told = moments(event, [agency_part(row, said), agency_part(later, [])])
    assert [(one["what"], one["agency"]) for one in told] == [
        ("occurred", None),
        ("published", None),
        ("logged", None),
        ("routed", None),
        ("attempted", "a"),
        ("delivered", "a"),
        ("accepted", "a"),
        ("entitled", "b"),
    ]
    assert told == sorted(told, key=lambda one: one["at"])
    assert told[5]["attempts"] == 3
    part = agency_part(row, said)
    assert (part["delivered_at"], part["acknowledged_at"]) == (minute(12), minute(20))


def test_when_an_agency_answered_is_when_it_said_what_stands() -> None:
    """It took its rejection back: the first time that it accepted is past."""
    row = {"agency": "a", "why": "match", "subscriptions": ["s"], "routed_at": minute(7)}
    said = [receipt(outcome, None, n) for outcome, n in (("accepted", 20), ("rejected", 21), ("accepted", 22))]
    part = agency_part(row, [*said, receipt("delivered", 8, 30)])
    assert (part["state"], part["acknowledged_at"]) == ("accepted", minute(22))


def test_a_receivers_words_are_told_to_its_own_side_and_to_the_publishers() -> None:
    """Why we parked it is ours to tell anybody; what a receiver said of it, or rejected it for, may name somebody."""
    said = [
        receipt("rejected", None, 1, reason="张某不符"),
        receipt("parked", 1, 2, reason="HTTP 422", words="张某不符"),
        receipt("parked", 1, 3, reason="已暂停"),
    ]
    assert [one["reason"] for one in told_to(OPERATOR, said)] == [None, "HTTP 422", "已暂停"]
    assert [one["reason"] for one in told_to(Scope.administrator(), said)] == ["张某不符", "HTTP 422", "已暂停"]
    for whose in (Scope.of_agency("a"), Scope.of_publisher(["urn:h"])):
        assert [one["reason"] for one in told_to(whose, said)] == ["张某不符", "HTTP 422: 张某不符", "已暂停"]
