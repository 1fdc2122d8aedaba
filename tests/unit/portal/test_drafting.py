"""The form of a grant says what the application says, and the other way; problems stand at the field they speak of."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.contracts import load_contracts
from services.portal.web.drafting import body_of, field_choices, form_of, problems_by_place
from services.runtime.errors import FieldProblem, InvalidError
from tests.events import ISSUED, REVOKED

CONTRACTS = load_contracts()
LAW = {"basis": "《办法》第十二条", "scene": "监管", "scope": "本级", "method": "推送"}
ROW: dict[str, Any] = {
    "types": [ISSUED, REVOKED],
    "filters": [
        {"exact": {"division": "510100"}},
        {"cel": "data.beds > 100"},
        {"any": [{"prefix": {"subject": "川"}}, {"not": {"suffix": {"subject": "x"}}}]},
    ],
    **LAW,
    "valid_from": None,
    "valid_until": "2099-01-01T00:00:00+08:00",
    "backfill_from": None,
    "fields": {"levels": ["public"], "grant": ["contact_name"], "mask": ["institution_name"]},
    "divisions": ["5101", "5107"],
    "forward_to": [],
    "replaces": None,
}


def test_a_grant_shown_as_a_form_and_sent_unchanged_is_the_same_grant() -> None:
    """Simple conditions, expressions and nested ones, field by field, to the minute."""
    body = body_of(form_of(ROW), "market").model_dump(exclude={"agency", "by", "approve_by"})
    assert body | {"valid_until": None} == ROW | {"valid_until": None}
    assert body["valid_until"] == "2099-01-01T00:00"
    whole = ROW | {"fields": None, "filters": []}
    assert body_of(form_of(whole), "market").fields is None
    assert body_of(form_of(whole), "market").filters == []


def test_what_is_missing_is_named_all_at_once() -> None:
    """The types and each part of what the law asks."""
    with pytest.raises(InvalidError) as raised:
        body_of({"basis": " "}, "market")
    assert {one.pointer for one in raised.value.problems} == {"/types", "/basis", "/scene", "/scope", "/method"}
    with pytest.raises(InvalidError, match="filters_json"):
        body_of(form_of(ROW) | {"filters_json": "{"}, "market")


def test_a_problem_stands_at_the_field_of_the_form_that_it_speaks_of() -> None:
    """A filter's number becomes the condition, the expressions or the JSON that it was written in."""
    form = form_of(ROW)
    problems = [
        FieldProblem("/filters/0/exact/divison", "a"),
        FieldProblem("/filters/1/cel", "b"),
        FieldProblem("/filters/2/any/0/prefix", "c"),
        FieldProblem("/fields/grant/0", "d"),
        FieldProblem("/valid_until", "e"),
        FieldProblem("/types/1", "f"),
    ]
    assert problems_by_place(problems, form) == {
        "rule/0/value": ["a"],
        "cel": ["b"],
        "filters_json": ["c"],
        "fields": ["d"],
        "valid_until": ["e"],
        "types": ["f"],
    }


def test_only_what_may_be_chosen_for_a_field_is_offered() -> None:
    """What one type lacks is not granted or masked; the business key is not hidden; the outcome is told."""
    choices = {one.path: one for one in field_choices(form_of(ROW), CONTRACTS)}
    key = CONTRACTS.types[ISSUED].catalogue.business_key[0]
    assert choices[key].choices == ["grant"]
    only_issued = next(
        p for p in CONTRACTS.types[ISSUED].sensitivities() if p not in CONTRACTS.types[REVOKED].sensitivities()
    )
    assert choices[only_issued].choices == ["drop"]
    assert (choices["institution_name"].outcome, choices["institution_name"].chosen) == ("mask", "mask")
    assert choices["institution_name"].choices == ["grant", "mask", "drop"]
    assert field_choices({}, CONTRACTS) == []
