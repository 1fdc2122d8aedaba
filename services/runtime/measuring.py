"""What a metric is: name, kind, labels, unit and meaning, from which its collector and its documentation are made.

Names follow Prometheus' conventions: base units (seconds, bytes) at the end, ``_total`` for what only grows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

__all__ = [
    "Collector",
    "CollectorRegistry",
    "Counter",
    "CounterMetricFamily",
    "CounterSpec",
    "Gauge",
    "GaugeMetricFamily",
    "GaugeSpec",
    "Histogram",
    "HistogramSpec",
    "Metric",
    "Spec",
    "samples",
]

Unit = Literal["", "seconds", "bytes", "timestamp"]
"""The base unit that the name ends with; empty where things are counted, or a state is told by 1 and 0."""

SUFFIXES = {"": "", "seconds": "_seconds", "bytes": "_bytes", "timestamp": "_timestamp_seconds"}


@dataclass(frozen=True, slots=True)
class Spec:
    """One metric; ``processes`` are those that expose it, ``zh`` and ``en`` say what it means."""

    name: str
    zh: str
    en: str
    processes: tuple[str, ...]
    labels: tuple[str, ...] = ()
    unit: Unit = ""

    kind: ClassVar[Literal["counter", "gauge", "histogram"]]

    @property
    def help(self) -> str:
        """Return what stands beside it on ``/metrics``."""
        return f"{self.zh} ({self.en})"

    def series(self) -> dict[str, tuple[str, ...]]:
        """Return the names of its series with their labels, as queries see them."""
        return {self.name: self.labels}


@dataclass(frozen=True, slots=True)
class CounterSpec(Spec):
    """What only grows while a process lives."""

    kind: ClassVar[Literal["counter", "gauge", "histogram"]] = "counter"

    def on(self, registry: CollectorRegistry | None) -> Counter:
        """Return the collector; without a registry it is to be registered later."""
        return Counter(self.name, self.help, self.labels, registry=registry)

    def family(self) -> CounterMetricFamily:
        """Return an empty family, for a collector that is asked when the page is."""
        return CounterMetricFamily(self.name, self.help, labels=self.labels)


@dataclass(frozen=True, slots=True)
class GaugeSpec(Spec):
    """What goes up and down."""

    kind: ClassVar[Literal["counter", "gauge", "histogram"]] = "gauge"

    def on(self, registry: CollectorRegistry) -> Gauge:
        """Return the collector."""
        return Gauge(self.name, self.help, self.labels, registry=registry)

    def asked(self, registry: CollectorRegistry, value: Callable[[], float]) -> None:
        """Have a function asked for the value whenever the page is."""
        self.on(registry).set_function(value)

    def family(self) -> GaugeMetricFamily:
        """Return an empty family, for a collector that is asked when the page is."""
        return GaugeMetricFamily(self.name, self.help, labels=self.labels)


@dataclass(frozen=True, slots=True)
class HistogramSpec(Spec):
    """How values are spread over ``buckets``."""

    buckets: tuple[float, ...] = Histogram.DEFAULT_BUCKETS

    kind: ClassVar[Literal["counter", "gauge", "histogram"]] = "histogram"

    def on(self, registry: CollectorRegistry) -> Histogram:
        """Return the collector."""
        return Histogram(self.name, self.help, self.labels, registry=registry, buckets=self.buckets)

    def series(self) -> dict[str, tuple[str, ...]]:
        """Return the names of its series with their labels, as queries see them."""
        sums = {f"{self.name}{end}": self.labels for end in ("_count", "_sum")}
        return sums | {f"{self.name}_bucket": (*self.labels, "le")}


def samples(page: str, name: str) -> Iterable[tuple[dict[str, str], float]]:
    """Give labels and value of every sample of a series on a ``/metrics`` page."""
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == name:
                yield dict(sample.labels), sample.value
