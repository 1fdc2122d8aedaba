"""Peak memory of each process, and whether it grows with the length of a backlog."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from bench.results import Result
from bench.stack import Answering, peak_mb, subscribe, wait_for
from producers.demonstration.installation import Installation
from producers.simulation.commands import write_month

BAR_MB = 150
GROWTH = 1.15
WINDOW = "cn.gov.sc.window"


def measure(_address: str) -> list[Result]:
    """Build up a long backlog for an agency whose receiver is away, then twice and four times as long a one."""
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
            peaks = [_peaks(installation, files, f"urn:bench:{n}") for n in range(4)]
        finally:
            installation.stop()
    name, worst = max(peaks[-1].items(), key=lambda item: item[1])
    growing, grown = max(((one, peaks[3][one] / peaks[1][one]) for one in peaks[1]), key=lambda item: item[1])
    bar = f"each at most {BAR_MB} MB; the largest is the {name}'s"
    return [
        Result("memory_peak", round(worst), None, None, "MB", bar, worst <= BAR_MB),
        Result(
            "memory_growth",
            round(grown, 2),
            1.0,
            round(grown, 2),
            "peak at four times the backlog / at twice",
            f"at most {GROWTH}; the most is the {growing}'s",
            grown <= GROWTH,
        ),
    ]


def _peaks(installation: Installation, files: list[Path], source: str) -> dict[str, float]:
    installation.command("import", *map(str, files), "--source", source, "--json")
    wait_for(lambda: not any(group["lag"] for group in json.loads(installation.command("lag", "--json"))["groups"]))
    pids: dict[str, int] = installation.stack["pids"] | {"supervisor": installation.pid}
    return {name: peak_mb(pid) for name, pid in pids.items() if name not in {"kafka", "postgres"}}
