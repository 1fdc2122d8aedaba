"""Working days, against the vectors of the domain notes."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from schemas.working_days import CalendarEndsError, add_working_days, is_working_day

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data" / "vectors.json").read_text(encoding="utf-8"))
DAYS = VECTORS["working_days"]


@pytest.mark.parametrize("case", DAYS["add"], ids=lambda case: f"{case['from']}+{case['add_working_days']}")
def test_a_deadline_counts_the_days_after_the_act(case: dict[str, Any]) -> None:
    """The day of the act is day 0, whatever kind of day it is."""
    found = add_working_days(date.fromisoformat(case["from"]), case["add_working_days"])
    assert found == date.fromisoformat(case["expect"])


@pytest.mark.parametrize("case", DAYS["is_working_day"], ids=lambda case: case["date"])
def test_days_off_and_days_worked_instead_are_data(case: dict[str, Any]) -> None:
    """Some Sundays are worked, some Mondays are not."""
    assert is_working_day(date.fromisoformat(case["date"])) is case["is_working_day"]


def test_a_day_beyond_the_data_is_an_error() -> None:
    """No deadline is guessed: the message names the file to replace."""
    with pytest.raises(CalendarEndsError, match=r"2027-01-01.*working_days\.csv"):
        add_working_days(date(2026, 12, 31), 1)
