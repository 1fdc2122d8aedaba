"""How figures are shown, by the vectors of the domain notes."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from services.statistics.rounding import RULES, round_half_up

VECTORS = json.loads((Path(__file__).parents[2] / "data" / "statistics_vectors.json").read_text(encoding="utf-8"))
CASES: list[dict[str, Any]] = VECTORS["rounding"]["cases"]
COUNTS = [case for case in CASES if case["kind"] == "count_to_wan"]


@pytest.mark.parametrize("case", COUNTS, ids=lambda case: f"{case['count']}-{case['decimals']}")
def test_a_count_in_ten_thousands_is_rounded_half_up(case: dict[str, Any]) -> None:
    """Ties go away from zero, exactly, where binary floats and half-even go astray."""
    assert str(round_half_up(Decimal(case["count"]) / 10_000, case["decimals"])) == case["half_up"]


SIZES = {"yuan_to_yi_yuan": ("yuan", 10**8), "yuan_to_wan_yuan": ("yuan", 10**4), "signed": ("value", 1)}


@pytest.mark.parametrize("case", [c for c in CASES if c["kind"] in SIZES], ids=lambda case: case["half_up"])
def test_money_and_changes_are_rounded_by_the_same_rule(case: dict[str, Any]) -> None:
    """Exact decimals decide, of either sign."""
    name, size = SIZES[case["kind"]]
    assert str(round_half_up(Decimal(case[name]) / size, case["decimals"])) == case["half_up"]


@pytest.mark.parametrize(
    ("exact", "printed"),
    [(0, "0.00"), (1250, "0.13"), (2150, "0.22"), (9999, "1.00"), (10_000, "1.0"), (65_500, "6.6"), (66_500, "6.7")],
)
def test_ten_thousand_is_where_the_second_decimal_goes(exact: int, printed: str) -> None:
    """From 10 000 on one decimal is printed, below it two."""
    assert RULES["万件"].show(exact, "件").value == printed


def test_contacts_are_printed_exactly() -> None:
    """人/次 is never rounded."""
    found = RULES["exact"].show(15534, "人/次")
    assert (found.value, found.unit) == ("15534", "人/次")


def test_a_figure_without_a_value_is_shown_as_such() -> None:
    """A rate of nothing is no zero."""
    assert RULES["%"].show(None, "比率").value == "—"
