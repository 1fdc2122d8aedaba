"""The newest snapshot as Prometheus figures."""

from __future__ import annotations

from collections.abc import Callable

from services.delivery.lag import AgencyLag, Latencies, ProbeLag, Snapshot
from services.runtime import metrics
from services.runtime.measuring import Collector, GaugeMetricFamily, Metric

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
    age, backlog, held = metrics.OLDEST_UNDELIVERED.family(), metrics.BACKLOG.family(), metrics.FEED_HELD.family()
    state, overdue, share = metrics.AGENCY_STATE.family(), metrics.OVERDUE.family(), metrics.DEADLINE_MET.family()
    taken, slow = metrics.TAKEN.family(), metrics.SLOW.family()
    latency, by_channel = metrics.DELIVERY_LATENCY.family(), metrics.CHANNEL_LATENCY.family()
    issue = metrics.ACKNOWLEDGEMENT_LATENCY.family()
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
            family.add_metric([*labels, quantile], value / 1000)


def _groups(snapshot: Snapshot) -> list[Metric]:
    lag, delay, state = metrics.GROUP_LAG.family(), metrics.GROUP_DELAY.family(), metrics.GROUP_STATE.family()
    for one in snapshot.groups:
        lag.add_metric([one.group, one.topic], one.lag)
        delay.add_metric([one.group, one.topic], one.delay_s)
        state.add_metric([one.group, one.topic, one.state], 1.0)
    return [lag, delay, state]


def _probe(probe: ProbeLag) -> list[Metric]:
    if probe.state == "off":
        return []
    state, latency = metrics.PROBE_STATE.family(), metrics.PROBE_LATENCY.family()
    for name in PROBE_STATES:
        state.add_metric([name], float(name == probe.state))
    for quantile, name in QUANTILES:
        value = getattr(probe, name)
        if value is not None:
            latency.add_metric([quantile], value / 1000)
    clock = metrics.GATEWAY_CLOCK.family()
    clock.add_metric([], probe.clock_ahead_s)
    return [state, latency, clock]


def _itself(snapshot: Snapshot) -> list[Metric]:
    unreadable, seconds = metrics.MONITOR_UNREADABLE.family(), metrics.MONITOR_SECONDS.family()
    unreadable.add_metric([], snapshot.unreadable)
    seconds.add_metric([], snapshot.took_s)
    clocks = metrics.PUBLISHER_CLOCK.family()
    for one in snapshot.clocks:
        clocks.add_metric([one.source, one.direction], one.seconds)
    return [unreadable, seconds, clocks]
