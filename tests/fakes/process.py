"""A process of no use that keeps the rules of ours: ``python -m tests.fakes.process VERB NAME --port N``."""

from __future__ import annotations

import sys

from prometheus_client import CollectorRegistry

from services.runtime.lifecycle import stop_event
from services.runtime.probes import Health, ProbeServer


def main() -> None:
    """Answer on /health until SIGTERM; one named ``broken`` ends at once."""
    if sys.argv[2] == "broken":
        raise SystemExit("this one is broken")
    stop = stop_event()
    with ProbeServer("127.0.0.1", int(sys.argv[4]), lambda: Health(True), CollectorRegistry()):
        stop.wait()


if __name__ == "__main__":
    main()
