"""The month that an instant belongs to, by the vectors of the domain notes."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from schemas.times import month_bounds, parse_time
from services.runtime.errors import InvalidError
from services.statistics.figure import Month

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "data" / "statistics_vectors.json").read_text(encoding="utf-8")
)["month_boundary"]


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: next(iter(case.values())))
def test_an_instant_lies_in_its_shanghai_month_alone(case: dict[str, str]) -> None:
    """A month is closed-open, so an instant on the boundary lies in the later one."""
    at, _ = parse_time(case.get("instant") or case.get("naive") or case["date_only"])
    months = [(2025, 11), (2025, 12), (2026, 1)]
    found = [f"{y}-{m:02d}" for y, m in months if month_bounds(y, m)[0] <= at < month_bounds(y, m)[1]]
    assert found == [case["shanghai_month"]]


def test_december_has_the_bounds_of_the_domain_notes() -> None:
    """December 2025 begins at 16:00 UTC of the day before."""
    expected = tuple(datetime.fromisoformat(text) for text in VECTORS["december_2025_utc"])
    assert month_bounds(2025, 12) == expected


@pytest.mark.parametrize("case", VECTORS["historic"], ids=lambda case: case["local"])
def test_a_time_without_offset_is_read_with_zone_data(case: dict[str, str]) -> None:
    """The summer time of 1986–1991 is honoured, which a fixed +08:00 would not do."""
    at, assumed = parse_time(case["local"])
    assert assumed
    assert at.timestamp() == datetime.fromisoformat(case["utc"]).timestamp()


@pytest.mark.parametrize(
    "text", ["2025-13", "2025-00", "2025-1", "0000-12", "9999-12", "２０２５-12", "2025-12-01", ""]
)
def test_what_is_no_month_is_refused(text: str) -> None:
    """Whatever can't be a reporting month is named as a bad field."""
    with pytest.raises(InvalidError, match="/month"):
        Month.parse(text)


def test_months_go_back_over_the_year() -> None:
    """A month before January is in the year before."""
    assert str(Month(2026, 1).back(1)) == "2025-12"
    assert str(Month(2025, 12).back(12)) == "2024-12"
