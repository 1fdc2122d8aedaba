"""December 2025 from CSV to figures: events per second from the import's start to the last fact committed."""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg

from bench.results import Result
from bench.stack import settings_of, wait_for
from producers.demonstration.installation import Installation
from producers.simulation.commands import type_of, write_month
from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.runtime.database import dsn_of
from services.statistics.opening import counted_topics

BAR = 5000


def measure(_address: str) -> list[Result]:
    """Import a month into a whole running installation, and wait for the last fact."""
    with tempfile.TemporaryDirectory(prefix="hongyan-bench-") as folder:
        Path(folder).chmod(0o755)
        topics, contracts = Topics(), load_contracts()
        inputs = counted_topics(topics, contracts)
        files = write_month(2025, 12, Path(folder) / "month", 1, 1.0)
        counted = [file for file in files if topics.events(contracts.types[type_of(file)].domain) in inputs]
        rows = sum(sum(1 for _ in file.open(encoding="utf-8-sig")) - 1 for file in counted)
        installation = Installation(Path(folder) / "data")
        try:
            dsn = dsn_of(settings_of(installation).database)
            began = time.monotonic()
            with ThreadPoolExecutor(1) as importing:
                # The command goes on a little: it waits for the router, to tell what is in conflict.
                command = importing.submit(installation.command, "import", *map(str, counted), "--json")
                wait_for(lambda: _counted(dsn) >= rows)
                rate = rows / (time.monotonic() - began)
                command.result()
        finally:
            installation.stop()
    return [Result("month", round(rate), None, None, "events/s", f"at least {BAR}", rate >= BAR)]


def _counted(dsn: str) -> int:
    """Return how many records the statistics have passed: every one ends as a fact or as a known repetition."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT coalesce(sum(next_offset), 0) FROM statistics.consumer_offset").fetchone()
        return int(row[0]) if row else 0
