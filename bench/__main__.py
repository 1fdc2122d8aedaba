"""``python -m bench [--only NAME]``: measure against bare loops in the same run, and keep what was measured."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from bench import table
from bench.results import Result, keep
from services.runtime.embedded.servers import start_servers
from services.runtime.settings import Settings
from services.runtime.supervisor import Supervisor

NAMES = (
    "route",
    "entitlement",
    "approval",
    "gateway",
    "relay",
    "latency",
    "delivery",
    "longpoll",
    "ledger",
    "ledger_search",
    "month",
    "memory",
    "start",
    "facts",
    "rebuild",
    "imports",
    "monitor",
)


def main() -> None:
    """Run the measurements and print them."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=NAMES, help="measure this one only")
    only = parser.parse_args().only
    supervisor = Supervisor()
    with tempfile.TemporaryDirectory(prefix="hongyan-bench-") as folder:
        Path(folder).chmod(0o755)
        try:
            servers = start_servers(Path(folder), supervisor, Settings())
            for name in [only] if only else NAMES:
                measure: Callable[[str], list[Result]] = import_module(f"bench.{name}").measure
                results = measure(servers.bootstrap_servers)
                keep(results)
                table.main([])
                for result in results:
                    print(_line(result), flush=True)
        finally:
            supervisor.stop()


def _line(result: Result) -> str:
    against = f" bare {result.bare} ratio {result.ratio}" if result.bare is not None else ""
    verdict = "holds" if result.holds else "SHORT"
    return f"{result.name}: ours {result.ours}{against} {result.unit}; bar: {result.bar}: {verdict}"


if __name__ == "__main__":
    main()
