"""``python -m bench.table [--check]``: the figures of README.md, made from ``bench/results.json`` and nowhere else."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.results import FILE

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- figures: python -m bench.table -->", "<!-- /figures -->"
HEAD = ("项目", "鸿雁", "裸循环", "比值", "单位", "要求", "达到", "日期")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table, and what was measured on."""
    lines = [_line(HEAD), "|" + "---|" * len(HEAD)]
    lines += [
        _line(
            (
                row["name"],
                row["ours"],
                "—" if row["bare"] is None else row["bare"],
                "—" if row["ratio"] is None else row["ratio"],
                row["unit"],
                row["bar"],
                "是" if row["holds"] else "否",
                row["date"],
            )
        )
        for row in rows
    ]
    machines = sorted({row["machine"] for row in rows})
    return "\n".join([*lines, "", f"{'；'.join(machines)}。"])


def with_table(page: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a page with the table between its marks; raises ValueError where a mark is missing."""
    before, begun, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not begun or not ended:
        raise ValueError(f"{BEGIN} … {END} 不在页面中 (the marks are missing)")
    return f"{before}{BEGIN}\n\n{table(rows)}\n\n{END}{after}"


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def main(arguments: Sequence[str] | None = None, page: Path = README, results: Path = FILE) -> int:
    """Write the table, or with ``--check`` tell whether it stands there already."""
    parser = argparse.ArgumentParser(prog="python -m bench.table", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 where the page differs")
    held = page.read_text(encoding="utf-8")
    made = with_table(held, json.loads(results.read_text(encoding="utf-8")))
    if made == held:
        return 0
    if parser.parse_args(arguments).check:
        print(f"{page.name} 的数字与 {results.name} 不符，运行 python -m bench.table (the figures differ; run it)")
        return 1
    page.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
