"""The registry of one process: what every process tells of itself, beside what its own parts count."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from importlib.metadata import version

from prometheus_client import ProcessCollector, disable_created_metrics

from services.runtime.kafka.health import CLIENTS
from services.runtime.lifecycle import INTERRUPTED
from services.runtime.measuring import Collector, CollectorRegistry, Metric
from services.runtime.metrics import BUILD_INFO, WORKING


def new_registry() -> CollectorRegistry:
    """Return a registry with the version, the process's own figures, its outages and its Kafka clients."""
    disable_created_metrics()  # a series more for each, and nobody asks for it
    registry = CollectorRegistry()
    BUILD_INFO.on(registry).labels(version("hongyan"), platform.python_version()).set(1)
    ProcessCollector(registry=registry)
    registry.register(INTERRUPTED)
    registry.register(CLIENTS)
    return registry


class Working(Collector):
    """Tells whether a process works, as its health says when the page is asked."""

    def __init__(self, ok: Callable[[], bool]) -> None:
        self._ok = ok

    def collect(self) -> Iterable[Metric]:
        """Return 1 or 0."""
        found = WORKING.family()
        found.add_metric([], float(self._ok()))
        yield found
