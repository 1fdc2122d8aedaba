"""Names of what figures are broken down by."""

from __future__ import annotations

from schemas.contracts import load_contracts
from services.reporting.naming import names, symbol_names


def test_symbols_are_named_as_their_field_says() -> None:
    """No second list: what the doc of a field says of its symbols is what a chart says."""
    found = symbol_names(load_contracts())
    assert found["intake"] == {"integrated_window": "综合窗口", "department_window": "部门窗口", "online": "网上"}
    assert found["handling"]["online"] == "全程网办"


def test_what_is_no_symbol_is_named_by_its_table_and_nothing_is_said_to_be_nothing() -> None:
    """A department by its code; an empty value is not an empty label."""
    name = names({"intake": {"online": "网上"}}, lambda dimension, value: f"{dimension}:{value}")
    assert name("intake", "online") == "网上"
    assert name("department_code", "1") == "department_code:1"
    assert name("department_code", "") == "未填"
