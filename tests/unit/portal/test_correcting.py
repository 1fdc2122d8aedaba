"""A dead letter's form: what was changed is corrected, nothing else; what is hidden stays as it is."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.contracts import load_contracts
from services.portal.letters import SeenLetter
from services.portal.seen import seen_fields
from services.portal.web.correcting import attribute_inputs, correction_of, data_inputs
from services.runtime.errors import InvalidError
from tests.events import ISSUED

CONTRACT = load_contracts().types[ISSUED]
DATA = {
    "institution_name": "某医院",
    "beds": 120,
    "departments": ["内科", "外科"],
    "contact_name": "张三",
}


def letter(*, whole: bool = False) -> SeenLetter:
    """Return a letter as its publisher's people see it, or as who operates does."""
    attributes = {"id": "e-1", "source": "urn:sc:health", "type": ISSUED, "division": "510100"}
    said: dict[str, Any] = {"number": "router/1", "attributes": attributes, "data": DATA}
    return SeenLetter(said, seen_fields(DATA, CONTRACT, whole=whole), CONTRACT, ())


def corrected(changes: dict[str, str], *, whole: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the correction that follows when these fields are changed and all others are sent as they were."""
    seen = letter(whole=whole)
    inputs = [*attribute_inputs(seen, all_of_them=not whole), *data_inputs(seen, whole=whole)]
    form = {one.name: one.value.replace("\n", "\r\n") for one in inputs} | changes
    return correction_of(form, inputs, DATA)


def test_a_form_sent_as_it_was_corrects_nothing() -> None:
    """However its lines end."""
    assert corrected({}) == ({}, {})
    assert corrected({}, whole=True) == ({}, {})


def test_what_was_changed_is_corrected_in_its_own_kind() -> None:
    """Numbers as numbers, lists line by line, an emptied field taken away, attributes as texts."""
    changes = {"data/beds": "80", "data/departments": "内科\r\n\r\n儿科", "data/institution_name": ""}
    attributes, data = corrected(changes | {"attribute/division": "510700", "attribute/follows": "e-0"})
    assert attributes == {"division": "510700", "follows": "e-0"}
    assert data == {"beds": 80, "departments": ["内科", "儿科"], "institution_name": None}


def test_what_is_hidden_is_not_offered_and_cannot_be_changed() -> None:
    """Who operates sees no personal field, neither of the letter's nor of those that it lacks; its publisher does."""
    offered = {one.name for one in data_inputs(letter(), whole=False)}
    levels = CONTRACT.sensitivities()
    assert not {name for name in offered if levels[name.removeprefix("data/")] in {"personal", "sensitive"}}
    assert corrected({"data/contact_name": "李四"}) == ({}, {})
    assert corrected({"data/contact_name": "李四"}, whole=True) == ({}, {"contact_name": "李四"})


def test_a_department_does_not_change_whose_event_it_is() -> None:
    """Neither id nor source are offered to it."""
    assert corrected({"attribute/source": "urn:another", "attribute/id": "x"}, whole=True) == ({}, {})
    assert corrected({"attribute/id": "x"}) == ({"id": "x"}, {})


def test_what_is_no_number_is_named_by_its_field() -> None:
    """By the pointer that the desk itself would name it by."""
    with pytest.raises(InvalidError) as raised:
        corrected({"data/beds": "many"})
    assert [one.pointer for one in raised.value.problems] == ["/data/beds"]
