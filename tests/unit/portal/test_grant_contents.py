"""What a grant names must be there: at its approval, and when a later schema has taken something away."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from schemas.contracts import Contracts, load_contracts
from services.portal.contents import content_problems
from tests.events import ISSUED, REVOKED

POLICY = {"levels": ["public"], "grant": ["contact_name"]}
FILTERS = [{"any": [{"cel": "data.beds > 100"}, {"not": {"cel": "data.contact_name == '张三'"}}]}]


def later(**catalogue: Any) -> Contracts:
    """Return the contracts as a later version has them: no contact name any more, or shared otherwise."""
    contract = load_contracts().types[ISSUED]
    schema = copy.deepcopy(contract.schema)
    schema["fields"] = [f for f in schema["fields"] if f["name"] != "contact_name"]
    return Contracts(
        {ISSUED: replace(contract, schema=schema, catalogue=contract.catalogue.model_copy(update=catalogue))}
    )


def test_a_field_that_a_later_schema_takes_away_is_named() -> None:
    """In the policy and in an expression, however deep; nothing is wrong with what is still there."""
    assert content_problems(load_contracts(), [ISSUED], FILTERS, POLICY) == []
    found = content_problems(later(), [ISSUED], FILTERS, POLICY)
    assert [p.pointer for p in found] == ["/filters/0/any/1/not/cel", "/fields/grant/0"]
    assert all("contact_name" in p.detail for p in found)
    assert content_problems(later(), [ISSUED], [{"cel": "data.beds > 1"}], {"levels": ["public"]}) == []


def test_a_type_that_is_shared_no_longer_is_named() -> None:
    """不予共享: the grant stands and gives nothing, and whoever looks at it is told."""
    assert [p.pointer for p in content_problems(later(sharing="none"), [ISSUED], [], None)] == ["/types/0"]
    assert [p.pointer for p in content_problems(Contracts({}), [ISSUED], [], None)] == ["/types/0"]


GOOD = [
    {"cel": "data.beds > 100"},
    {"cel": "data['beds'] > 100 && data.institution_name.startsWith('四川')"},
    {"cel": "data.contact_name == '张三'"},
    {"cel": "data.departments.exists(d, d == '内科')"},
    {"cel": "size(data.quality) > 3 && data.quality[3] == 'x'"},
    {"cel": "division.startsWith('51') && data.institution_name != 'data.nothing'"},
    {"cel": "type.endsWith('.revoked') ? data.reason_code == '1' : data.beds > 1"},
    {"exact": {"division": "510100"}},
    {"not": {"suffix": {"subject": "x"}}},
]
BAD = {
    "data.bedz > 100": "data.bedz",
    "dta.beds > 100": "dta",
    "data['bedz'] == 1": "data.bedz",
    "data.beds.foo.bar == 1": "data.beds.foo.bar",
    "divsion == '510100'": "divsion",
    "division == '1' && data.bedz > 1": "data.bedz",
    "data.departments.exists(d, d == e)": "e",
    "data.beds + 'x' == 'y'": "sample",
    "data.quality[3] == 'x'": "sample",
    "nosuch(data.beds)": "sample",
    "data.beds": "sample",
}


@pytest.mark.parametrize("expression", GOOD)
def test_what_can_be_told_on_some_type_is_taken(expression: dict[str, Any]) -> None:
    """Fields of only one of the types, fields that the sample leaves empty, guards, texts that look like fields."""
    assert content_problems(load_contracts(), [ISSUED, REVOKED], [expression], None) == []


@pytest.mark.parametrize(("text", "named"), BAD.items())
def test_an_expression_of_what_is_not_there_is_refused_by_its_place(text: str, named: str) -> None:
    """Names, fields however written, nested ones, and what can't be evaluated on any sample."""
    filters = [{"exact": {"division": "510100"}}, {"any": [{"not": {"cel": text}}]}]
    (found,) = content_problems(load_contracts(), [ISSUED, REVOKED], filters, None)
    assert found.pointer == "/filters/1/any/0/not/cel"
    assert named in found.detail


@pytest.mark.parametrize("dialect", ["exact", "prefix", "suffix"])
def test_an_attribute_that_no_event_has_is_refused_by_name(dialect: str) -> None:
    """A slip of the pen would never match."""
    (found,) = content_problems(load_contracts(), [ISSUED], [{"all": [{dialect: {"divison": "51"}}]}], None)
    assert found.pointer == f"/filters/0/all/0/{dialect}/divison"


@pytest.mark.parametrize(
    ("fields", "pointers"),
    [
        ({"levels": [], "grant": ["beds"]}, ["/fields/grant/0"]),
        ({"levels": ["public"], "mask": ["institution_name", "phone"]}, ["/fields/mask/1"]),
        ({"levels": ["public"], "drop": ["phone", "nothing"]}, ["/fields/drop/1"]),
        ({"levels": ["public"], "drop": ["certificate_no_normalised"]}, ["/fields/drop/0"]),
        ({"levels": ["public"], "mask": ["institution_name"], "drop": ["phone"]}, []),
    ],
)
def test_a_field_that_a_type_lacks_can_not_be_granted(fields: dict[str, Any], pointers: list[str]) -> None:
    """In a grant of several types each must have it; the business key stands in the subject, and is not hidden."""
    found = content_problems(load_contracts(), [ISSUED, REVOKED], [], fields)
    assert [one.pointer for one in found] == pointers
