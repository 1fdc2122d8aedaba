"""What a grant names must be there: at its approval, and when a later schema has taken something away."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from schemas.contracts import Contracts, load_contracts
from services.portal.subscriptions import content_problems
from tests.events import ISSUED

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
    assert [p.pointer for p in found] == ["/filters/0", "/fields/grant/0"]
    assert all("contact_name" in p.detail for p in found)
    assert content_problems(later(), [ISSUED], [{"cel": "data.beds > 1"}], {"levels": ["public"]}) == []


def test_a_type_that_is_shared_no_longer_is_named() -> None:
    """不予共享: the grant stands and gives nothing, and whoever looks at it is told."""
    assert [p.pointer for p in content_problems(later(sharing="none"), [ISSUED], [], None)] == ["/types/0"]
    assert [p.pointer for p in content_problems(Contracts({}), [ISSUED], [], None)] == ["/types/0"]
