"""The figures of the README are those that were measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.table import BEGIN, END, main, with_table

ROW = {
    "name": "route",
    "ours": 10,
    "bare": 20,
    "ratio": 0.5,
    "unit": "events/s",
    "bar": "ratio >= 0.7",
    "holds": False,
    "machine": "a machine",
    "date": "2026-01-01",
}


def test_the_page_says_what_was_measured_and_is_checked_against_it(tmp_path: Path) -> None:
    """A figure that was changed on the page by hand is found, and put right by writing; the rest stays as it is."""
    page, results = tmp_path / "README.md", tmp_path / "results.json"
    results.write_text(json.dumps([ROW, ROW | {"name": "start", "bare": None, "ratio": None, "holds": True}]))
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert main(["--check"], page, results) == 1
    assert main([], page, results) == 0
    assert main(["--check"], page, results) == 0
    written = page.read_text()
    assert "| route | 10 | 20 | 0.5 | events/s | ratio >= 0.7 | 否 | 2026-01-01 |" in written
    assert "| start | 10 | — | — |" in written
    assert (written.startswith("before\n"), written.endswith("after\n"), "old" in written) == (True, True, False)
    page.write_text(written.replace("| 10 |", "| 100 |"))
    assert main(["--check"], page, results) == 1


def test_a_page_without_marks_is_refused() -> None:
    """Rather than a table at some other place."""
    with pytest.raises(ValueError, match="marks"):
        with_table("no marks", [ROW])
