"""Peak memory of each process, and whether it grows with the length of a backlog."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.results import Result
from bench.stack import Answering, peak_mb, subscribe
from producers.demonstration.installation import Installation
from producers.simulation.commands import write_month

BAR_MB = 150
GROWTH = 1.15
WINDOW = "cn.gov.sc.window"


def measure(_address: str) -> list[Result]:
    """Build up a long backlog for an agency whose receiver is away, twice as long the second time."""
    with tempfile.TemporaryDirectory(prefix="hongyan-bench-") as folder:
        Path(folder).chmod(0o755)
        files = write_month(2025, 12, Path(folder) / "month", 1, 0.35)
        installation = Installation(Path(folder) / "data")
        try:
            types = [f"{WINDOW}.case.accepted", f"{WINDOW}.case.completed"]
            receiver = Answering()
            subscribe(installation, "away", receiver.url, types)
            receiver.shutdown()
            receiver.server_close()
            first = _peaks(installation, files, "urn:bench:1")
            second = _peaks(installation, files, "urn:bench:2")
        finally:
            installation.stop()
    name, worst = max(second.items(), key=lambda item: item[1])
    grown = max(second[process] / first[process] for process in first)
    bar = f"each at most {BAR_MB} MB; the largest is the {name}'s"
    return [
        Result("memory_peak", round(worst), None, None, "MB", bar, worst <= BAR_MB),
        Result(
            "memory_growth",
            round(grown, 2),
            1.0,
            round(grown, 2),
            "peak at twice the backlog / peak",
            f"at most {GROWTH}",
            grown <= GROWTH,
        ),
    ]


def _peaks(installation: Installation, files: list[Path], source: str) -> dict[str, float]:
    installation.command("import", *map(str, files), "--source", source, "--json")
    installation.command("lag", "--json")
    pids: dict[str, int] = installation.stack["pids"]
    return {name: peak_mb(pid) for name, pid in pids.items() if name not in {"kafka", "postgres"}}
