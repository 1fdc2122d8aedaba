"""What has changed between two versions, of a grant and of a schema, named by its place."""

from __future__ import annotations

import copy
from typing import Any

from schemas.contracts import load_contracts
from services.portal.differences import grant_differences, schema_differences
from tests.events import ISSUED

GRANT: dict[str, Any] = {
    "types": ["a"],
    "filters": [{"cel": "data.beds > 1"}],
    "fields": {"levels": ["public"], "mask": ["x"]},
    "scope": "本级",
    "valid_until": None,
    "state": "draft",
    "version": 1,
}


def told(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str, str | None, str | None]]:
    """Return the differences of two grants."""
    return [(one.place, one.kind, one.before, one.after) for one in grant_differences(before, after)]


def test_a_grants_lists_are_compared_by_what_they_hold() -> None:
    """What was added and what was taken away, also inside of the field policy; states and versions are no content."""
    after = GRANT | {
        "types": ["a", "b"],
        "fields": {"levels": ["public", "internal"]},
        "scope": "全省",
        "valid_until": "2099-01-01T00:00:00+08:00",
        "state": "submitted",
        "version": 2,
    }
    assert told(GRANT, after) == [
        ("types", "added", None, "b"),
        ("fields.levels", "added", None, "internal"),
        ("fields.mask", "removed", "x", None),
        ("scope", "changed", "本级", "全省"),
        ("valid_until", "added", None, "2099-01-01T00:00:00+08:00"),
    ]
    assert told(GRANT, GRANT | {"state": "active", "version": 3}) == []


def test_a_policy_that_became_whole_events_is_seen() -> None:
    """None is another thing than a policy, and a condition is shown as it was written."""
    (fields,) = told(GRANT, GRANT | {"fields": None})
    assert fields[:2] == ("fields", "removed")
    (condition,) = told(GRANT, GRANT | {"filters": []})
    assert condition == ("filters", "removed", '{"cel": "data.beds > 1"}', None)


def test_a_schemas_fields_are_compared_property_by_property() -> None:
    """A field added, one removed, another sensitivity, another type: each is named by field and property."""
    before = load_contracts().types[ISSUED].schema
    after = copy.deepcopy(before)
    after["fields"] = [field for field in after["fields"] if field["name"] != "contact_name"]
    after["fields"].append({"name": "fresh", "type": "string", "doc": "新字段 (new)", "sensitivity": "public"})
    (beds,) = [field for field in after["fields"] if field["name"] == "beds"]
    beds |= {"sensitivity": "internal", "type": ["null", "long"]}
    found = {one.place: one for one in schema_differences(before, after)}
    assert found["fresh"].kind == "added"
    assert found["contact_name"].kind == "removed"
    assert found["beds · sensitivity"].after == '"internal"'
    assert found["beds · type"].after == "long?"
    assert len(found) == 4
    assert not schema_differences(before, copy.deepcopy(before))
