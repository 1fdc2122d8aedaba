"""What would make lag lie: channels, backfills, legal limits, clocks, ends of transactions, what has vanished."""

from __future__ import annotations

from datetime import timedelta

import orjson
import pytest

from consumers.monitor.exposition import LagCollector
from consumers.monitor.meter import measured, suspended
from schemas.receipts import Channel
from schemas.topics import PROBE_AGENCY
from services.delivery.lag import GroupLag, Snapshot
from services.runtime.kafka.port import Committed, Partition
from services.runtime.measuring import CollectorRegistry
from services.subscriptions.control import ControlView
from tests.fakes.hand_clock import NOW, HandClock
from tests.fakes.kafka import FakeKafka
from tests.lagging import (
    ISSUED,
    MARKET,
    TOPICS,
    BusyKafka,
    GappedKafka,
    commit,
    deliver,
    market,
    meter_of,
    publish,
)


def test_the_systems_own_probe_is_none_of_the_agencies() -> None:
    """It is measured as the probe."""
    view = ControlView()
    for name in ("market", PROBE_AGENCY):
        view.apply(f"agency/{name}", orjson.dumps({"id": name, "name": name, "division": "510000", "sink": "http://x"}))
    assert measured(view) == {"market": "webhook"}


def test_what_an_agency_took_is_told_by_channel_and_acknowledgements_from_the_issue(cluster: FakeKafka) -> None:
    """A 2xx counts for the webhook, the acknowledgement for who pulls, streams or reads Kafka, each by itself."""
    issued = (NOW - timedelta(minutes=1, hours=2)).isoformat()
    deliver(cluster, 10)
    deliver(cluster, 400, "accepted", happened_at=issued)
    deliver(cluster, 50, "accepted", channel="pull", happened_at=issued)
    deliver(cluster, 70, "accepted", channel="pull", streamed=True, happened_at=issued)
    deliver(cluster, 90, "rejected", channel="kafka", reason="r", happened_at=issued)
    deliver(cluster, 30, channel="table")
    lag = market(meter_of(cluster))
    taken = {one.channel: (one.latencies.delivered, one.latencies.p50_ms) for one in lag.channels}
    assert taken == {"webhook": (1, 10), "pull": (1, 50), "sse": (1, 70), "kafka": (1, 90), "table": (1, 30)}
    acknowledged = {one.channel: one.latencies.acknowledged for one in lag.channels}
    assert acknowledged == {"webhook": 1, "pull": 1, "sse": 1, "kafka": 1, "table": 0}
    assert (lag.latencies.delivered, lag.latencies.issue_p50_ms) == (5, 2 * 3600 * 1000)


def test_percentiles_are_of_all_that_came_from_publication_and_from_the_issue(cluster: FakeKafka) -> None:
    """The median, the slowest twentieth and the slowest hundredth, in figures and as metrics."""
    for n in range(1, 101):
        deliver(cluster, n, cursor=n)
        issued = (NOW - timedelta(minutes=1, seconds=n)).isoformat()
        deliver(cluster, n, "accepted", cursor=n, happened_at=issued)
    snapshot = meter_of(cluster).measure(MARKET)
    found = snapshot.agencies[0].latencies
    assert (found.p50_ms, found.p95_ms, found.p99_ms) == (50, 95, 99)
    assert (found.issue_p50_ms, found.issue_p95_ms, found.issue_p99_ms) == (50_000, 95_000, 99_000)
    registry = CollectorRegistry()
    registry.register(LagCollector(lambda: snapshot))
    for name, scale in (("hongyan_channel_latency_seconds", 1000), ("hongyan_acknowledgement_latency_seconds", 1)):
        told = [
            registry.get_sample_value(name, {"agency": "market", "channel": "webhook", "quantile": quantile})
            for quantile in ("0.5", "0.95", "0.99")
        ]
        assert told == [50 / scale, 95 / scale, 99 / scale]


def test_what_is_told_again_is_nobodys_delay(cluster: FakeKafka) -> None:
    """A backfill and a replay were published long ago: neither their delivery nor their waiting is aged from then."""
    deliver(cluster, 10)
    for why in ("backfill", "replay"):
        deliver(cluster, 86_400_000, reached_by=why)
    publish(cluster, 1, 86_400, why=b"backfill")
    lag = market(meter_of(cluster))
    assert (lag.latencies.delivered, lag.latencies.p99_ms, lag.oldest_age_s) == (1, 10.0, 0.0)


def test_what_an_agency_says_again_or_of_what_it_had_is_no_new_delivery(cluster: FakeKafka) -> None:
    """Pushed in time and acknowledged late by another channel, or its word changed: it had the event all the same."""
    deliver(cluster, 10, cursor=0)
    deliver(cluster, 10, cursor=0)
    for outcome in ("accepted", "rejected"):
        deliver(cluster, 10 * 86_400_000, outcome, cursor=0, channel="pull", happened_at=NOW.isoformat())  # type: ignore[arg-type]
    for milliseconds in (50, 86_400_000):
        deliver(cluster, milliseconds, "accepted", cursor=1, channel="pull", happened_at=NOW.isoformat())
    lag = market(meter_of(cluster))
    assert (lag.latencies.delivered, lag.latencies.p99_ms, lag.latencies.acknowledged) == (2, 50, 2)
    assert (lag.taken_total, lag.slow_total, lag.deadline.met, lag.deadline.total) == (2, 0, 2, 2)


def test_events_of_a_feed_that_was_made_anew_are_other_ones(cluster: FakeKafka) -> None:
    """Though they have the cursors of those that the agency had."""
    meter = meter_of(cluster)
    publish(cluster, 2, 30)
    deliver(cluster, 10, cursor=0)
    assert market(meter).latencies.delivered == 1
    cluster.admin().delete_topics([TOPICS.feed("market")])
    cluster.admin().ensure_topics(TOPICS.agency_specs("market"))
    publish(cluster, 1, 30)
    assert market(meter).latencies.delivered == 1
    deliver(cluster, 10, cursor=0)
    assert market(meter).latencies.delivered == 2


@pytest.mark.parametrize("channel", ["pull", "kafka", "table"])
def test_who_may_take_nothing_by_decision_is_held_and_does_not_stand(cluster: FakeKafka, channel: Channel) -> None:
    """No pusher notes it beside a cursor that is the agency's own; nobody is to ask it to fetch again."""
    clock = HandClock()
    meter = meter_of(cluster, clock)
    publish(cluster, 1, 30)
    view = ControlView()
    agency = {"id": "market", "name": "m", "division": "510000", "sink": "http://x", "state": "suspended"}
    view.apply("agency/market", orjson.dumps(agency))
    for _ in range(6):
        clock.seconds += 1
        (lag,) = meter.measure({"market": channel}, held=suspended(view)).agencies
    assert (lag.state, lag.held_since, lag.held_decided) == ("held", lag.state_since, True)
    assert "已暂停" in (lag.held_why or "")
    view.apply("agency/market", orjson.dumps(agency | {"state": "active"}))
    assert suspended(view) == {}
    (lag,) = meter.measure({"market": channel}, held=suspended(view)).agencies
    assert (lag.state, lag.held_since) == ("stopped" if channel != "kafka" else lag.state, None)


def test_the_legal_limit_is_counted_in_working_days_from_publication(cluster: FakeKafka) -> None:
    """Five working days for a certificate: what took nine days is late, and so is what still waits."""
    deliver(cluster, 10)
    deliver(cluster, 9 * 86_400_000)
    deliver(cluster, 10, type="cn.gov.sc.activity.held")
    publish(cluster, 1, 9 * 86_400, kind=ISSUED.encode())
    publish(cluster, 1, 30, kind=ISSUED.encode())
    deadline = market(meter_of(cluster)).deadline
    assert (deadline.met, deadline.total, deadline.overdue) == (1, 3, 1)
    assert deadline.share == pytest.approx(1 / 3)
    assert deadline.next_at == "2026-01-08T16:00:00+00:00"


def test_a_publisher_whose_clock_is_ahead_hides_no_delay_and_is_named(cluster: FakeKafka) -> None:
    """What is seen was published before; and it can't have been delivered before it was published."""
    clock = HandClock()
    meter = meter_of(cluster, clock)
    publish(cluster, 1, -7200)
    assert market(meter).oldest_age_s == 0.0
    clock.seconds = 40.0
    assert market(meter).oldest_age_s == 40.0
    done = NOW - timedelta(minutes=1)
    deliver(cluster, -7200_000, first_at=done.isoformat())
    (skew,) = meter.measure(MARKET).clocks
    assert (skew.source, skew.direction, round(skew.seconds)) == ("urn:test", "ahead", 7200)


def test_a_publisher_whose_clock_is_behind_is_named_when_nothing_else_was_late(cluster: FakeKafka) -> None:
    """At the last look the feed had nothing there and the router kept up, yet the event says it is two hours old."""
    clock = HandClock()
    meter = meter_of(cluster, clock)
    meter.measure(MARKET)
    clock.seconds = 1.0
    publish(cluster, 1, 7200)
    commit(cluster, 1)
    deliver(cluster, 7200_000)
    (skew,) = meter.measure(MARKET).clocks
    assert (skew.direction, skew.seconds > 7000) == ("behind", True)


def test_a_group_at_the_end_of_a_transaction_is_not_behind(cluster: FakeKafka) -> None:
    """Between its commit and the end no record stands; one that comes later is counted as one."""
    place = Partition(TOPICS.events("window"), 4)
    log = GappedKafka(cluster, {place: 2})
    clock = HandClock()
    meter = meter_of(log, clock)

    def router() -> GroupLag:
        return next(g for g in meter.measure({}).groups if (g.group, g.topic) == ("router", place.topic))

    assert (router().lag, router().state) == (0, "ok")
    for _ in range(6):
        clock.seconds += 1
        assert router().state == "ok"
    cluster.producer().send(place.topic, key=b"k", value=b"v", partition=4)
    assert router().lag == 1


def test_what_is_committed_is_read_before_the_ends_so_that_no_lag_is_hidden(cluster: FakeKafka) -> None:
    """What comes and is taken between the two is still counted as to be taken; the next look knows better."""
    place, group = Partition(TOPICS.events("window"), 4), TOPICS.group("router")

    def happens() -> None:
        publish(cluster, 2, 5)
        commit(cluster, 2)
        cluster.producer().send(place.topic, key=b"k", value=b"v", partition=4)
        cluster.admin().set_group_offsets(group, {place: Committed(1)})

    meter = meter_of(BusyKafka(cluster, happens))
    for expected in ((2, 1), (0, 0)):
        found = meter.measure(MARKET)
        lag = next(one.lag for one in found.groups if (one.group, one.topic) == ("router", place.topic))
        assert (found.agencies[0].backlog, lag) == expected


def test_a_log_that_was_made_anew_is_read_from_its_beginning(cluster: FakeKafka) -> None:
    """A commit beyond the end of a shorter log counts for nothing."""
    place = Partition(TOPICS.events("window"), 4)
    cluster.producer().send(place.topic, key=b"k", value=b"v", partition=4)
    cluster.admin().set_group_offsets(TOPICS.group("router"), {place: Committed(100)})
    lags = {(one.group, one.topic): one.lag for one in meter_of(cluster).measure({}).groups}
    assert lags["router", place.topic] == 1


def test_topics_and_agencies_that_vanish_disappear(cluster: FakeKafka) -> None:
    """From one look to the next."""
    meter = meter_of(cluster)
    assert [one.agency for one in meter.measure(MARKET).agencies] == ["market"]
    cluster.admin().delete_topics([TOPICS.feed("market"), TOPICS.events("window")])
    after = meter.measure(MARKET)
    assert after.agencies == []
    assert TOPICS.events("window") not in {one.topic for one in after.groups}


def test_who_stands_still_is_stalled_while_it_is_there_and_stopped_when_it_is_gone(cluster: FakeKafka) -> None:
    """By the group's members; a held line is held."""
    clock = HandClock()
    meter = meter_of(cluster, clock)
    member = cluster.consumer(TOPICS.group("pusher"))
    member.subscribe([TOPICS.control_shares], lambda _: None, lambda _: None)
    publish(cluster, 3, 30)
    seen = []
    for _ in range(5):
        seen.append(market(meter).state)
        clock.seconds += 1
    member.close()
    seen.append(market(meter).state)
    assert (seen[0], seen[4], seen[5]) == ("unknown", "stalled", "stopped")
    (pusher,) = [one for one in meter.measure(MARKET).groups if one.group == "pusher"]
    assert (pusher.lag, pusher.state, pusher.members) == (3, "stopped", 0)


def test_a_snapshot_is_the_same_after_its_way_as_json(cluster: FakeKafka) -> None:
    """What the portal and the alerts read is what was measured, also from a newer version that says more."""
    publish(cluster, 2, 30)
    deliver(cluster, 10)
    snapshot = meter_of(cluster).measure(MARKET)
    document = orjson.loads(orjson.dumps(snapshot.to_json()))
    assert Snapshot.from_json(document | {"more": 1}) == snapshot
