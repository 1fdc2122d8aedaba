"""The demonstration, whole: what it shows is what the product does."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.servers


@pytest.mark.timeout(400)
def test_the_demonstration_delivers_everything_and_the_figures_agree() -> None:
    """Every delivery arrives at a real receiver, and December 2025 comes out of the pipeline as it was published."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HONGYAN_")}
    done = subprocess.run(
        [sys.executable, "-m", "hongyan", "demo", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=380,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads(done.stdout)
    assert summary["deliveries"] == summary["expected"] == 37
    assert 0 < summary["p50_ms"] <= summary["p95_ms"] <= summary["p99_ms"]
    assert len(summary["figures"]) == 39
    assert all(figure["agrees"] for figure in summary["figures"]), summary["figures"]
    assert set(summary["seconds"]) == {"up", "prepare", "publish", "simulate", "import", "count"}
