"""监视：投递延迟，JSON 与 Prometheus (delivery lag for people and for Prometheus)。"""

from __future__ import annotations

import threading

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from consumers.monitor.meter import LagMeter
from consumers.monitor.snapshot import Snapshot, measured
from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.runtime import logging
from services.runtime.clock import SystemClock
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import Kafka
from services.runtime.lifecycle import outlast, stop_event
from services.runtime.probes import Health, ProbeServer
from services.runtime.settings import Settings
from services.subscriptions.follower import ControlFollower

PERIOD_S = 2.0


class LagCollector(Collector):
    """Gives Prometheus the newest snapshot."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None

    def clear(self) -> None:
        """Forget what was measured: stale figures are worse than none."""
        self.snapshot = None

    def collect(self) -> list[Metric]:
        """Return the figures; an agency or a group that is gone is in them no more."""
        snapshot = self.snapshot
        if snapshot is None:
            return []
        age = GaugeMetricFamily(
            "hongyan_oldest_undelivered_seconds", "Age of the oldest undelivered event", labels=["agency"]
        )
        backlog = GaugeMetricFamily("hongyan_backlog_events", "Undelivered events", labels=["agency"])
        held = GaugeMetricFamily("hongyan_feed_held", "1 while the line is held", labels=["agency"])
        latency = GaugeMetricFamily(
            "hongyan_delivery_latency_ms", "Publication to 2xx, by quantile", labels=["agency", "quantile"]
        )
        for one in snapshot.agencies:
            age.add_metric([one.agency], one.oldest_age_s or 0.0)
            backlog.add_metric([one.agency], one.backlog)
            held.add_metric([one.agency], 1.0 if one.held_since else 0.0)
            for quantile, value in (("0.5", one.p50_ms), ("0.95", one.p95_ms), ("0.99", one.p99_ms)):
                if value is not None:
                    latency.add_metric([one.agency, quantile], value)
        lag = GaugeMetricFamily("hongyan_group_lag_records", "Records behind", labels=["group", "topic"])
        for group in snapshot.groups:
            lag.add_metric([group.group, group.topic], group.lag)
        unreadable = CounterMetricFamily(
            "hongyan_monitor_unreadable_records", "Records whose times could not be read", snapshot.unreadable
        )
        return [age, backlog, held, latency, lag, unreadable]


def run(settings: Settings, *, port: int) -> None:
    """Measure until SIGTERM."""
    logging.configure(settings.log, process="monitor")
    stop = stop_event()
    registry, collector = CollectorRegistry(), LagCollector()
    registry.register(collector)
    kafka, topics = connect(settings.kafka), Topics(settings.kafka.topic_prefix)
    follower = ControlFollower(kafka, [topics.control_subscriptions], "monitor")
    with ProbeServer(settings.http.host, port, lambda: Health(collector.snapshot is not None), registry):
        follower.start(stop)
        outlast("monitor", lambda: _measure(kafka, topics, follower, collector, stop), stop, on_outage=collector.clear)


def _measure(
    kafka: Kafka, topics: Topics, follower: ControlFollower, collector: LagCollector, stop: threading.Event
) -> None:
    meter = LagMeter(kafka, topics, load_contracts().domains(), SystemClock())
    try:
        while not stop.is_set():
            collector.snapshot = meter.measure(*measured(follower.view))
            stop.wait(PERIOD_S)
    finally:
        meter.close()
