"""The newest snapshot as Prometheus figures."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from services.delivery.lag import AgencyLag, Latencies, ProbeLag, Snapshot

QUANTILES = (("0.5", "p50_ms"), ("0.95", "p95_ms"), ("0.99", "p99_ms"))
PROBE_STATES = ("starting", "ok", "late", "lost", "refused")


class LagCollector(Collector):
    """Gives Prometheus the snapshot of the moment; none while there is none: stale figures are worse."""

    def __init__(self, current: Callable[[], Snapshot | None]) -> None:
        self._current = current

    def collect(self) -> list[Metric]:
        """Return the figures; an agency or a group that is gone is in them no more."""
        snapshot = self._current()
        if snapshot is None:
            return []
        return [*_agencies(snapshot), *_groups(snapshot), *_probe(snapshot.probe), *_itself(snapshot)]


def _agencies(snapshot: Snapshot) -> list[Metric]:
    age = GaugeMetricFamily(
        "hongyan_oldest_undelivered_seconds", "Age of the oldest undelivered event", labels=["agency"]
    )
    backlog = GaugeMetricFamily("hongyan_backlog_events", "Undelivered events", labels=["agency"])
    held = GaugeMetricFamily("hongyan_feed_held", "1 while the line is held", labels=["agency"])
    state = GaugeMetricFamily("hongyan_agency_state", "1 for the state that a line is in", labels=["agency", "state"])
    overdue = GaugeMetricFamily(
        "hongyan_overdue_events", "Undelivered events whose legal limit has passed", labels=["agency"]
    )
    share = GaugeMetricFamily(
        "hongyan_deadline_share", "Share taken within the legal limit, over a day at most", labels=["agency"]
    )
    taken = CounterMetricFamily("hongyan_taken_events", "Events that an agency took", labels=["agency"])
    slow = CounterMetricFamily("hongyan_slow_events", "Of these, slower than the objective", labels=["agency"])
    latency = GaugeMetricFamily(
        "hongyan_delivery_latency_ms", "Publication to 2xx, by quantile", labels=["agency", "quantile"]
    )
    by_channel = GaugeMetricFamily(
        "hongyan_channel_latency_ms", "Publication to taken, by quantile", labels=["agency", "channel", "quantile"]
    )
    issue = GaugeMetricFamily(
        "hongyan_acknowledgement_latency_ms",
        "Issue (the event's own time) to business receipt, by quantile",
        labels=["agency", "channel", "quantile"],
    )
    for one in snapshot.agencies:
        age.add_metric([one.agency], one.oldest_age_s or 0.0)
        backlog.add_metric([one.agency], one.backlog)
        held.add_metric([one.agency], 1.0 if one.held_since else 0.0)
        state.add_metric([one.agency, one.state], 1.0)
        overdue.add_metric([one.agency], one.deadline.overdue)
        if one.deadline.share is not None:
            share.add_metric([one.agency], one.deadline.share)
        taken.add_metric([one.agency], one.taken_total)
        slow.add_metric([one.agency], one.slow_total)
        _add(latency, [one.agency], one.latencies, "")
        _add_channels(by_channel, issue, one)
    return [age, backlog, held, state, overdue, share, taken, slow, latency, by_channel, issue]


def _add_channels(taken: GaugeMetricFamily, issue: GaugeMetricFamily, one: AgencyLag) -> None:
    for channel in one.channels:
        _add(taken, [one.agency, channel.channel], channel.latencies, "")
        _add(issue, [one.agency, channel.channel], channel.latencies, "issue_")


def _add(family: GaugeMetricFamily, labels: list[str], latencies: Latencies, prefix: str) -> None:
    for quantile, name in QUANTILES:
        value = getattr(latencies, prefix + name)
        if value is not None:
            family.add_metric([*labels, quantile], value)


def _groups(snapshot: Snapshot) -> list[Metric]:
    lag = GaugeMetricFamily("hongyan_group_lag_records", "Records behind", labels=["group", "topic"])
    delay = GaugeMetricFamily("hongyan_group_delay_seconds", "How long behind", labels=["group", "topic"])
    state = GaugeMetricFamily(
        "hongyan_group_state", "1 for the state that a group is in", labels=["group", "topic", "state"]
    )
    for one in snapshot.groups:
        lag.add_metric([one.group, one.topic], one.lag)
        delay.add_metric([one.group, one.topic], one.delay_s)
        state.add_metric([one.group, one.topic, one.state], 1.0)
    return [lag, delay, state]


def _probe(probe: ProbeLag) -> list[Metric]:
    if probe.state == "off":
        return []
    state = GaugeMetricFamily("hongyan_probe_state", "1 for the state that the probe is in", labels=["state"])
    for name in PROBE_STATES:
        state.add_metric([name], float(name == probe.state))
    latency = GaugeMetricFamily("hongyan_probe_latency_ms", "The probe's way, by quantile", labels=["quantile"])
    for quantile, name in QUANTILES:
        value = getattr(probe, name)
        if value is not None:
            latency.add_metric([quantile], value)
    clock = GaugeMetricFamily(
        "hongyan_gateway_clock_ahead_seconds", "How far the gateway's clock is ahead of the monitor's"
    )
    clock.add_metric([], probe.clock_ahead_s)
    return [state, latency, clock]


def _itself(snapshot: Snapshot) -> list[Metric]:
    unreadable = CounterMetricFamily(
        "hongyan_monitor_unreadable_records", "Records whose times could not be read", snapshot.unreadable
    )
    seconds = GaugeMetricFamily("hongyan_monitor_seconds", "What the last look at everyone took", snapshot.took_s)
    clocks = GaugeMetricFamily(
        "hongyan_publisher_clock_skew_seconds",
        "A publisher's clock that can't be right",
        labels=["source", "direction"],
    )
    for one in snapshot.clocks:
        clocks.add_metric([one.source, one.direction], one.seconds)
    return [unreadable, seconds, clocks]
