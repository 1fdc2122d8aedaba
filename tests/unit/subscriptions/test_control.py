"""The view of the control topics: whatever stands there, what can be read is in force and nothing stops it."""

from __future__ import annotations

import orjson
import pytest

from services.subscriptions.control import ControlView

DEPARTMENT = {"id": "health", "name": "卫健委", "source": "urn:h", "types": [], "keys": [{"id": "k", "digest": "d"}]}
AGENCY = {
    "id": "market",
    "name": "市监局",
    "division": "510000",
    "sink": "http://10.0.0.1/",
    "state": "active",
    "keys": [],
}


@pytest.mark.parametrize(("kind", "entry"), [("department", DEPARTMENT), ("agency", AGENCY)])
def test_a_field_of_a_later_version_is_left_out(kind: str, entry: dict[str, object]) -> None:
    """A process of this version goes on beside one of the next, and what both know stays in force."""
    view = ControlView()
    assert view.apply(f"{kind}/{entry['id']}", orjson.dumps(entry | {"from_the_future": {"a": 1}}))
    assert getattr(view, {"department": "departments", "agency": "agencies"}[kind]).keys() == {entry["id"]}


@pytest.mark.parametrize(
    "value",
    [b"[]", b'"text"', b"7", b"{", b"\xff", b'{"keys": 7}', b'{"keys": ["x"]}', b'{"keys": [{"expires_at": 1}]}'],
)
@pytest.mark.parametrize("kind", ["agency", "department", "subscription", "policy", "access", "park"])
def test_what_can_not_be_read_is_left_out_and_changes_nothing(kind: str, value: bytes) -> None:
    """It is logged; the thread that follows the topic goes on."""
    view = ControlView()
    before = view.version
    if not view.apply(f"{kind}/x/1", value):
        assert view.version == before
