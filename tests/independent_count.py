"""Counts a simulated month from its CSV files alone: no code of the product decides what counts here."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path

CHINA = timezone(timedelta(hours=8))
FROM, TO = datetime(2025, 12, 1, tzinfo=CHINA), datetime(2026, 1, 1, tzinfo=CHINA)
WINDOW = "cn.gov.sc.window"

Row = Mapping[str, str]


def rows(folder: Path, name: str) -> Iterator[tuple[datetime, Row]]:
    """Give (time, row) of a file; a time without offset is Chinese."""
    with (folder / f"{WINDOW}.{name}-synthetic.csv").open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            at = datetime.fromisoformat(row["occurred_at"])
            yield (at if at.tzinfo else at.replace(tzinfo=CHINA)), row


def cases(folder: Path, name: str) -> list[Row]:
    """Return the provincial cases whose first event lies in the month."""
    first: dict[str, tuple[datetime, Row]] = {}
    for at, row in rows(folder, name):
        known = first.get(row["project_no"])
        if known is None or at < known[0]:
            first[row["project_no"]] = (at, row)
    return [row for at, row in first.values() if FROM <= at < TO and row["level"] == "province"]


def figures(folder: Path) -> dict[str, int]:
    """Return the eight figures of December 2025."""
    accepted, completed = cases(folder, "case.accepted"), cases(folder, "case.completed")
    return {
        "items_handled": len(completed),
        "online_accepted": sum(row["handling"] == "online" for row in accepted),
        "online_completed": sum(row["handling"] == "online" for row in completed),
        "integrated_window_accepted": sum(row["intake"] == "integrated_window" for row in accepted),
        "window_issued": _results(folder, "result.issued", "outlet", "window"),
        "hall_mailed": _results(folder, "result.mailed", "origin", "hall"),
        "consult_phone": _contacts(folder, "phone"),
        "consult_onsite": _contacts(folder, "onsite"),
    }


def _results(folder: Path, name: str, field: str, value: str) -> int:
    return len({(r["project_no"], at) for at, r in rows(folder, name) if FROM <= at < TO and r[field] == value})


def _contacts(folder: Path, mode: str) -> int:
    within = {r["record_no"]: r for at, r in rows(folder, "consultation.recorded") if FROM <= at < TO}
    return sum(int(row["count"]) for row in within.values() if row["mode"] == mode)
