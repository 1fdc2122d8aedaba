"""A simulated month: its totals by an independent count of the CSV files."""

from __future__ import annotations

import csv
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from producers.simulation.calendar import is_working_day
from producers.simulation.commands import type_of, write_month
from producers.simulation.targets import published
from schemas.contracts import load_contracts
from schemas.formats import divisions, is_uscc
from tests.independent_count import CHINA, FROM, TO, WINDOW, cases, figures, rows


@pytest.fixture(scope="module")
def december(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the whole of December 2025."""
    folder = tmp_path_factory.mktemp("december")
    write_month(2025, 12, folder, seed=7, scale=1.0)
    return folder


def test_its_totals_lie_within_the_published_figures(december: Path) -> None:
    """Counted from the files alone, all eight figures are those of the report."""
    counted = figures(december)
    bounds = published()["2025-12"]
    outside = {m: n for m, n in counted.items() if not bounds[m]["min"] <= n < bounds[m]["max_exclusive"]}
    assert outside == {}


def test_it_holds_what_a_careless_count_gets_wrong(december: Path) -> None:
    """Repeats, re-opened cases, both edges of the month, times without offset, and cases of cities are all there."""
    completed = list(rows(december, "case.completed"))
    per_case = Counter(row["project_no"] for _, row in completed)
    whole = Counter(tuple(row.values()) for _, row in completed)
    assert max(whole.values()) > 1
    assert len(per_case) < len(whole)
    times = [at for at, _ in rows(december, "case.accepted")]
    for edge in (FROM - timedelta(seconds=1), FROM, TO - timedelta(seconds=1), TO):
        assert edge in times
    assert any(datetime.fromisoformat(row["occurred_at"]).tzinfo is None for _, row in completed)
    assert any(row["level"] == "city" for _, row in completed)


def test_cases_carried_over_were_accepted_before(december: Path) -> None:
    """Some cases completed in the month have their acceptance on record before it."""
    before = {row["project_no"] for at, row in rows(december, "case.accepted") if at < FROM}
    assert len(before & {row["project_no"] for row in cases(december, "case.completed")}) > 500


def test_windows_work_in_office_hours_of_working_days(december: Path) -> None:
    """Nobody is served at a window by night or on a day off."""
    times = [at.astimezone(CHINA) for at, _ in rows(december, "result.issued")]
    within = [at for at in times if FROM + timedelta(hours=1) <= at < TO - timedelta(hours=1)]
    assert all(9 <= at.hour < 17 and is_working_day(at.date()) for at in within)


def test_it_is_marked_synthetic_and_has_valid_codes(december: Path) -> None:
    """File names, numbers and a note say that it is synthetic; codes are valid but fictional; all divisions occur."""
    assert "Synthetic data" in (december / "README-synthetic.txt").read_text(encoding="utf-8")
    accepted = [row for _, row in rows(december, "case.accepted")]
    assert all(row["project_no"].startswith("SYN-") for row in accepted)
    assert all(is_uscc(code) for code in {row["department_code"] for row in accepted})
    assert {row["division"] for row in accepted} == set(divisions())


def test_columns_are_the_fields_of_the_types(december: Path) -> None:
    """Each file can be imported as the type that its name tells."""
    for file in december.glob("*.csv"):
        known = {field["name"] for field in load_contracts().types[type_of(file)].fields()}
        with file.open(encoding="utf-8-sig", newline="") as lines:
            assert set(next(csv.reader(lines))) <= known


def test_a_seed_gives_the_same_month_again_and_another_seed_another(tmp_path: Path) -> None:
    """The files are a function of month, seed and scale."""
    made = {name: tmp_path / name for name in ("a", "b", "c")}
    for (_, folder), seed in zip(made.items(), (1, 1, 2), strict=True):
        write_month(2025, 12, folder, seed, 0.01)
    same = [file.name for file in made["a"].iterdir() if file.read_bytes() == (made["b"] / file.name).read_bytes()]
    assert len(same) == 6
    assert (made["a"] / f"{WINDOW}.case.accepted-synthetic.csv").read_bytes() != (
        made["c"] / f"{WINDOW}.case.accepted-synthetic.csv"
    ).read_bytes()


@pytest.mark.parametrize(("year", "month"), [(2026, 2), (2030, 1)])
def test_a_month_without_published_figures_or_calendar_is_plausible(tmp_path: Path, year: int, month: int) -> None:
    """Any month can be simulated; a year without calendar data falls back to weekdays."""
    assert all(file.stat().st_size > 0 for file in write_month(year, month, tmp_path, 1, 0.01))
