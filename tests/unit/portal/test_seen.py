"""What somebody is shown of an event's data: what is personal is named and hidden, however deep it lies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from schemas.contracts import load_contracts
from services.portal.seen import HIDDEN, personal_fields, seen_fields
from tests.events import ISSUED

CONTRACT = load_contracts().types[ISSUED]


def shown(data: dict[str, Any], *, whole: bool = False) -> dict[str, str | None]:
    """Return what is shown by the name of the field; a hidden one shows nothing."""
    found = seen_fields(data, CONTRACT, whole=whole)
    return {one.name: HIDDEN if one.hidden else one.value for one in found}


def test_personal_fields_are_hidden_from_who_operates() -> None:
    """Their name and sensitivity stay, what they say does not; whoever has the right sees it, and that is on record."""
    personal = [n for n, level in CONTRACT.sensitivities().items() if level in {"personal", "sensitive"}]
    assert personal, "the type has personal fields"
    data = {name: CONTRACT.sample[name] for name in personal if name in CONTRACT.sample} | {"beds": 120}
    assert shown(data) == dict.fromkeys(data, HIDDEN) | {"beds": "120"}
    assert HIDDEN not in shown(data, whole=True).values()
    assert personal_fields(data, CONTRACT) == sorted(set(data) - {"beds"})


def test_a_field_that_no_schema_knows_counts_as_personal() -> None:
    """So does every field of an event of an unknown type."""
    assert shown({"beds": 1, "never_seen": "x"}) == {"beds": "1", "never_seen": HIDDEN}
    assert [one.hidden for one in seen_fields({"a": 1}, None, whole=False)] == [True]
    assert personal_fields({"a": {"b": 1}}, None) == ["a", "a.b"]


def test_what_is_personal_inside_of_a_record_is_hidden_too() -> None:
    """Also in the records of a list; what lies in a personal record is personal, whatever is said of it."""
    inner = [
        {"name": "name", "type": "string", "doc": "姓名", "sensitivity": "personal"},
        {"name": "role", "type": "string", "doc": "角色", "sensitivity": "public"},
    ]
    record = {"type": "record", "name": "Party", "fields": inner}
    fields = [
        {"name": "party", "type": record, "doc": "当事人", "sensitivity": "public"},
        {"name": "parties", "type": {"type": "array", "items": record}, "doc": "各方", "sensitivity": "internal"},
        {"name": "family", "type": record, "doc": "家属", "sensitivity": "sensitive"},
    ]
    contract = replace(CONTRACT, schema={**CONTRACT.schema, "fields": fields})
    one = {"name": "张三", "role": "法人"}
    data = {"party": one, "parties": [one], "family": one}
    found = {field.name: field for field in seen_fields(data, contract, whole=False)}
    assert "张三" not in str(found)
    assert "法人" in str(found["party"].value)
    assert "法人" in str(found["parties"].value)
    assert found["family"].hidden
    assert personal_fields(data, contract) == ["family", "family.name", "family.role", "parties.name", "party.name"]


def test_values_are_shown_as_people_write_them() -> None:
    """Texts as they are, lists of texts a line each, truths and numbers as JSON, nothing as nothing."""
    assert shown({"institution_name": "某医院", "departments": ["内科", "外科"], "beds": None}) == {
        "institution_name": "某医院",
        "departments": "内科\n外科",
        "beds": None,
    }
