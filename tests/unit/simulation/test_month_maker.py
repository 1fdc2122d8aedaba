"""A simulated month: its totals by an independent count of the CSV files."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

from producers.files.columns import Columns
from producers.files.reading import read_rows
from producers.simulation.calendar import is_working_day
from producers.simulation.commands import type_of, write_files, write_month
from producers.simulation.sections import section_files
from producers.simulation.targets import published
from schemas.contracts import load_contracts
from schemas.formats import divisions, is_uscc
from schemas.validation import ValidationRules, Validator
from tests.independent_count import CHINA, FROM, TO, WINDOW, Counting, cases, rows

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def outside(counted: Mapping[str, Decimal], bounds: Mapping[str, Any]) -> dict[str, Decimal]:
    """Return the figures that lie without their bounds."""
    limits = {name: (Decimal(bounds[name]["min"]), Decimal(bounds[name]["max_exclusive"])) for name in counted}
    return {name: value for name, value in counted.items() if not limits[name][0] <= value < limits[name][1]}


@pytest.fixture(scope="module")
def december(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the whole of December 2025."""
    folder = tmp_path_factory.mktemp("december")
    write_month(2025, 12, folder, seed=7, scale=1.0)
    return folder


def test_its_totals_lie_within_the_published_figures(december: Path) -> None:
    """Counted from the files alone, all 39 figures are those of the report."""
    counted = Counting(december).all()
    bounds = published()["2025-12"]
    assert counted.keys() == bounds.keys()
    assert outside(counted, bounds) == {}


@pytest.mark.parametrize("seed", range(8, 16))
def test_another_seed_reaches_the_same_bounds_by_other_events(december: Path, tmp_path: Path, seed: int) -> None:
    """The published figures leave room: other seeds lie within the bounds too, and where there is room they differ."""
    write_files(tmp_path, section_files(2025, 12, seed, 1.0))
    one, other = Counting(december).other_sections(), Counting(tmp_path).other_sections()
    assert outside(other, published()["2025-12"]) == {}
    assert one["project_funds"] != other["project_funds"]


def test_another_month_has_figures_of_its_own(tmp_path: Path) -> None:
    """Where nothing was published, figures are plausible, and most are not December's."""
    write_files(tmp_path, section_files(2025, 10, 3, 1.0))
    counted = Counting(tmp_path, 2025, 10).other_sections()
    assert min(counted.values()) > 0
    assert counted["policy_app_divisions"] <= 21
    assert len(outside(counted, published()["2025-12"])) > 20


def test_the_other_sections_hold_what_a_careless_count_gets_wrong(december: Path) -> None:
    """Inventories revised, items expired, cases of the year before, other programmes, and the days around the month."""
    count = Counting(december)
    decided = {row["owner_code"]: row["total"] for _, row in count.rows("inventory.decided", "decided_on")}
    revised = [row for at, row in count.rows("inventory.revised", "decided_on") if at < TO]
    assert any(row["total"] != decided[row["owner_code"]] for row in revised)
    assert any(at >= TO for at, _ in count.rows("inventory.revised", "decided_on"))
    assert {at < TO for at, _ in count.rows("policy.item.expired", "expired_on")} == {True, False}
    completed = [row for _, row in count.rows("enterprise.project.case.completed")]
    assert any(row["accepted_at"] < "2025" for row in completed)
    assert any(row["legal_days"] == "" for row in completed)
    programmes = Counter(row["programme"] for _, row in count.rows("activity.held", "held_on"))
    assert len(programmes) > 6


def test_sums_of_inventories_agree_with_their_parts(december: Path) -> None:
    """Every list's total is the sum of kept, merged and retired systems, or no such event would be accepted."""
    for name in ("inventory.decided", "inventory.revised"):
        for _, row in Counting(december).rows(name, "decided_on"):
            assert int(row["total"]) == int(row["keep"]) + int(row["merge"]) + int(row["retire"])


def test_every_row_passes_the_checks_of_its_type(december: Path) -> None:
    """No simulated row of the other sections is refused: they go through the same validation as any department's."""
    for file in december.glob("*.csv"):
        contract = load_contracts().types[type_of(file)]
        validator, found = Validator(contract, ValidationRules()), read_rows(file)
        columns = Columns(contract, next(found)[1])
        for _, values in islice(found, 500):
            validator.validate(columns.split(values)[1], NOW)


def test_what_is_told_late_is_of_this_month_and_of_none_of_its_files(december: Path) -> None:
    """New cases of the month, and completions of the month before of cases that the month's own files have as its."""
    on_time = {row["project_no"]: at for at, row in rows(december, "case.completed")}
    late = list(rows(december / "late", "case.completed"))
    added = [row["project_no"] for at, row in late if FROM <= at < TO]
    earlier = [row["project_no"] for at, row in late if at < FROM]
    assert len(added) + len(earlier) == len(late)
    assert len(added) > 50
    assert len(earlier) > 20
    assert not on_time.keys() & set(added)
    assert all(FROM <= on_time[number] < TO for number in earlier)
    assert {row["project_no"] for _, row in rows(december / "late", "case.accepted")} == set(added)


def test_some_rows_arrive_out_of_order(december: Path) -> None:
    """Files are mostly in the order of their times, as systems export them, but not wholly."""
    times = [at for at, _ in rows(december, "case.completed")]
    breaks = sum(later < sooner for sooner, later in pairwise(times))
    assert 0 < breaks < len(times) * 0.02


def test_withdrawn_cases_were_accepted_and_never_completed(december: Path) -> None:
    """A withdrawal ends a case that is on record and still open."""
    withdrawn = {row["project_no"] for _, row in rows(december, "case.withdrawn")}
    assert withdrawn
    assert withdrawn <= {row["project_no"] for _, row in rows(december, "case.accepted")}
    assert not withdrawn & {row["project_no"] for _, row in rows(december, "case.completed")}


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
    files = [file.relative_to(made["a"]) for file in made["a"].rglob("*.csv")]
    assert all((made["a"] / file).read_bytes() == (made["b"] / file).read_bytes() for file in files)
    assert len(files) == 24
    assert (made["a"] / f"{WINDOW}.case.accepted-synthetic.csv").read_bytes() != (
        made["c"] / f"{WINDOW}.case.accepted-synthetic.csv"
    ).read_bytes()


@pytest.mark.parametrize(("year", "month"), [(2026, 2), (2030, 1)])
def test_a_month_without_published_figures_or_calendar_is_plausible(tmp_path: Path, year: int, month: int) -> None:
    """Any month can be simulated; a year without calendar data falls back to weekdays."""
    assert all(file.stat().st_size > 0 for file in write_month(year, month, tmp_path, 1, 0.01))
