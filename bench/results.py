"""What a measurement says, and where it is kept: ``bench/results.json``, one object a name, the newest run of each."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

FILE = Path(__file__).with_name("results.json")


def machine() -> str:
    """Return what the figures were measured on."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


@dataclass(frozen=True, slots=True)
class Result:
    """One measurement: ours, the bare loop of the same run, their ratio, the bar in words and whether it holds.

    ``bare`` and ``ratio`` are None where nothing bare can be compared (memory, start time).
    """

    name: str
    ours: float
    bare: float | None
    ratio: float | None
    unit: str
    bar: str
    holds: bool
    machine: str = field(default_factory=machine)
    date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())


def keep(results: list[Result]) -> None:
    """Put these results into the file, in place of older ones of the same name."""
    held = {row["name"]: row for row in json.loads(FILE.read_text())} if FILE.exists() else {}
    held |= {result.name: asdict(result) for result in results}
    FILE.write_text(json.dumps([held[name] for name in sorted(held)], ensure_ascii=False, indent=2) + "\n")
