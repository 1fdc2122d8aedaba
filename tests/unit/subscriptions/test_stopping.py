"""What a stopped grant has put into feeds stays there, and nothing else does."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from services.subscriptions.control import ControlView
from services.subscriptions.stopping import Stops, closed_to_direct_reading, grants_of, stopped

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LONG_AGO = "2020-01-01T00:00:00Z"


def view_of(*grants: dict[str, Any]) -> ControlView:
    """Return a view of these grants of an agency."""
    view = ControlView()
    for grant in grants:
        entry = {"agency": "a", "types": ["t"], "state": "active", **grant}
        view.apply(f"subscription/{entry['id']}", orjson.dumps(entry))
    return view


@pytest.mark.parametrize(
    ("grants", "by", "kept_back"),
    [
        ([{"id": "s"}], "s", False),
        ([{"id": "s", "state": "suspended"}], "s", True),
        ([{"id": "s", "state": "terminated"}], "s", True),
        ([{"id": "s", "state": "suspended"}], "", False),
        ([{"id": "s", "valid_until": LONG_AGO}], "s", False),
        ([{"id": "s", "state": "suspended", "valid_until": LONG_AGO}], "s", True),
        ([{"id": "s", "state": "suspended"}, {"id": "t"}], "s", True),
        ([{"id": "s", "state": "suspended"}, {"id": "t"}], "t", False),
        ([{"id": "s", "state": "suspended"}, {"id": "t"}], "s,t", False),
        ([{"id": "s", "state": "suspended"}, {"id": "t", "valid_until": LONG_AGO}], "s", True),
        ([{"id": "s", "state": "suspended"}, {"id": "t", "state": "terminated"}], "s,t", True),
        ([{"id": "s", "state": "terminated"}, {"id": "t", "replaces": "s"}], "s", False),
        ([{"id": "s", "state": "terminated"}, {"id": "t", "replaces": "s", "state": "suspended"}], "s", True),
        ([{"id": "s", "state": "suspended"}], "unknown", False),
    ],
)
def test_an_event_is_kept_back_when_every_grant_that_it_came_by_was_stopped(
    grants: list[dict[str, Any]], by: str, kept_back: bool
) -> None:
    """Time alone stops nothing that was routed in time; a grant whose place another has taken was not stopped.

    A follow-up comes by no grant. One that is not known here yet was approved a moment ago.
    """
    came_by = grants_of([("ce_id", b"e"), ("hongyan-subscriptions", by.encode())])
    said = stopped(came_by, Stops(view_of(*grants)).of("a"))
    assert (said is not None) is kept_back
    assert said is None or all(name in said for name in by.split(","))


def test_a_stopped_grant_stops_what_was_forwarded_too() -> None:
    """The city's feed holds what came by the province's grant; others' feeds are not looked at."""
    stops = Stops(view_of({"id": "s", "state": "suspended", "forward_to": ["city"]}))
    assert set(stops.of("a")) == set(stops.of("city")) == {"s"}
    assert stops.of("other") == {}


def test_a_decision_is_seen_as_soon_as_the_view_has_it() -> None:
    """Suspended and resumed: looked at anew with every change."""
    view = view_of({"id": "s"})
    stops = Stops(view)
    for state, found in (("suspended", {"s"}), ("active", set()), ("terminated", {"s"})):
        view.apply("subscription/s", orjson.dumps({"id": "s", "agency": "a", "types": [], "state": state}))
        assert set(stops.of("a")) == found


@pytest.mark.parametrize(
    ("grants", "closed"),
    [
        ([], False),
        ([{"id": "s"}], False),
        ([{"id": "s", "state": "suspended"}, {"id": "t"}], True),
        ([{"id": "s", "state": "terminated"}, {"id": "t"}], False),
        ([{"id": "s", "state": "terminated"}], True),
        ([{"id": "s", "state": "suspended", "valid_until": LONG_AGO}, {"id": "t"}], False),
        ([{"id": "s", "state": "suspended", "valid_until": LONG_AGO}], True),
        ([{"id": "s", "state": "terminated"}, {"id": "t", "replaces": "s"}], False),
        ([{"id": "s", "agency": "province", "state": "suspended", "forward_to": ["a"]}], True),
    ],
)
def test_kafka_itself_is_closed_while_a_grant_is_suspended_or_all_have_ended(
    grants: list[dict[str, Any]], closed: bool
) -> None:
    """There no single event can be kept back."""
    view = view_of(*grants)
    agency = {"id": "a", "name": "a", "division": "510000", "sink": "x"}
    view.apply("agency/a", orjson.dumps(agency))
    assert (closed_to_direct_reading(view, "a", NOW) is not None) is closed
    view.apply("agency/a", orjson.dumps({**agency, "state": "suspended"}))
    assert closed_to_direct_reading(view, "a", NOW) is not None
