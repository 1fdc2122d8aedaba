"""docs/delivery-guarantee.md says what the code does, and every clause of it is proved by a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from services.delivery.guarantee import BLOCKS, answers, delays, filled

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "delivery-guarantee.md").read_text(encoding="utf-8")


def clauses() -> list[list[str]]:
    """Return the rows of the table of clauses."""
    table = PAGE.split("## 逐条与证明")[1].split("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in table.splitlines() if line.startswith("|")]
    return rows[2:]


def test_what_is_made_from_the_code_is_as_the_code_makes_it() -> None:
    """Mend it with ``make docs``."""
    assert filled(PAGE) == PAGE
    assert set(re.findall(r"<!-- (\w+) -->", PAGE)) == set(BLOCKS)


def test_every_clause_names_a_test_that_exists() -> None:
    """File and function, both."""
    assert len(clauses()) >= 15
    for clause, _, proof in clauses():
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", proof)
        assert named, clause
        for file, function in named:
            tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
            assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, proof


def test_the_tables_say_what_the_settings_and_the_standard_want() -> None:
    """A few cells by hand, so that a mistake in making the table is seen too."""
    assert "| 1 | 0.25 s | 0.5 s | 0.5 s |" in delays()
    assert "| 之后每次 | 30 s | 60 s | |" in delays()
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ")[1] for line in answers().splitlines()[2:]}
    assert rows["200–299"] == "已收到"
    assert rows["410"] == "不再接收"
    assert any("404" in statuses and "429" in statuses and means == "现在不行" for statuses, means in rows.items())
