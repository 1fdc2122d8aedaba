"""Lag that does not lie: cursors, feeds and receipts of a fake Kafka, measured."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from consumers.monitor.exposition import LagCollector
from consumers.monitor.showing import print_snapshot
from consumers.monitor.tally import COUNT_LIMIT
from consumers.monitor.window import SAMPLE_LIMIT, Window, percentile
from services.delivery.lag import Snapshot
from services.runtime.errors import KafkaUnavailableError
from services.runtime.kafka.port import Committed, Partition
from tests.fakes.hand_clock import NOW
from tests.fakes.kafka import FakeKafka
from tests.lagging import (
    MARKET,
    TOPICS,
    CountedReads,
    StalledReads,
    commit,
    deliver,
    market,
    meter_of,
    publish,
)


def test_the_oldest_undelivered_event_is_aged_from_its_publication(cluster: FakeKafka) -> None:
    """What stands beyond the cursor counts, and the first of it gives the age."""
    publish(cluster, 2, 500)
    publish(cluster, 3, 30)
    commit(cluster, 2)
    lag = market(meter_of(cluster))
    assert (lag.backlog, lag.backlog_exact, lag.oldest_age_s) == (3, True, 30.0)


def test_an_agency_with_everything_delivered_has_no_lag(cluster: FakeKafka) -> None:
    """No age, no backlog; percentiles come from the receipts of what was delivered, and of nothing else."""
    publish(cluster, 2, 30)
    commit(cluster, 2)
    for milliseconds in (10, 20, 30, 1000):
        deliver(cluster, milliseconds)
    deliver(cluster, 99_999, outcome="parked")
    lag = market(meter_of(cluster))
    assert (lag.backlog, lag.oldest_age_s, lag.latencies.delivered) == (0, None, 4)
    assert (lag.latencies.p50_ms, lag.latencies.p95_ms, lag.latencies.p99_ms) == (20.0, 1000.0, 1000.0)


def test_an_agency_of_another_channel_lags_behind_its_own_cursor(cluster: FakeKafka) -> None:
    """What it acknowledged by pulling is not undelivered, although the pusher's cursor stands still."""
    publish(cluster, 5, 30)
    commit(cluster, 1)
    feed = Partition(TOPICS.feed("market"), 0)
    cluster.admin().set_group_offsets(TOPICS.agency_group("market"), {feed: Committed(4)})
    meter = meter_of(cluster)
    assert [market(meter, "webhook").backlog, market(meter, "pull").backlog] == [4, 1]


def test_a_held_line_says_since_when_and_why(cluster: FakeKafka) -> None:
    """The pusher's commit note is shown as it is."""
    note = {"held_since": "2026-01-01T11:00:00+00:00", "why": "HTTP 503"}
    commit(cluster, 0, orjson.dumps(note).decode())
    lag = market(meter_of(cluster))
    assert (lag.held_since, lag.held_why) == (note["held_since"], "HTTP 503")


def test_group_lag_is_counted_from_the_commit_and_never_negative(cluster: FakeKafka) -> None:
    """A commit that was read before the end can be ahead of nothing; an uncommitted partition lags from its start."""
    for _ in range(3):
        cluster.producer().send(TOPICS.events("window"), key=b"k", value=b"v", partition=4)
    snapshot = meter_of(cluster).measure({})
    lags = {(group.group, group.topic): group.lag for group in snapshot.groups}
    for group in ("router", "statistics", "ledger"):
        assert lags[group, TOPICS.events("window")] == 3
    assert {("ledger", TOPICS.ledger_routed), ("ledger", TOPICS.receipts)} <= lags.keys()
    assert lags["router", TOPICS.events("health")] == 0


def test_percentiles_are_nearest_rank() -> None:
    """The smallest sample that covers the share."""
    assert percentile([], 0.5) is None
    assert percentile([1.0], 0.99) == 1.0
    assert percentile([float(n) for n in range(1, 101)], 0.95) == 95.0


def test_prometheus_sees_the_same_snapshot(cluster: FakeKafka) -> None:
    """The collector gives what was measured, with the agency as a label."""
    publish(cluster, 2, 30)
    held: list[Snapshot] = []
    collector = LagCollector(lambda: held[-1] if held else None)
    assert collector.collect() == []
    held.append(meter_of(cluster).measure(MARKET))
    values = {sample.name: sample.value for family in collector.collect() for sample in family.samples}
    assert values["hongyan_backlog_events"] == 2
    assert values["hongyan_oldest_undelivered_seconds"] == 30


@pytest.mark.parametrize("recorded", [b"2026-01-01T11:59:00", b"yesterday", b"\xff\xfe"])
def test_a_time_that_can_not_be_read_is_counted_and_the_logs_own_stands_in(cluster: FakeKafka, recorded: bytes) -> None:
    """Without an offset, no time at all, or no text: each is counted once, however often it is measured."""
    publish(cluster, 1, 30, recorded)
    meter = meter_of(cluster)
    for _ in range(3):
        snapshot = meter.measure(MARKET)
        assert (snapshot.agencies[0].oldest_age_s, snapshot.unreadable) == (30.0, 1)
    collector = LagCollector(lambda: snapshot)
    samples = {sample.name: sample.value for family in collector.collect() for sample in family.samples}
    assert samples["hongyan_monitor_unreadable_records_total"] == 1


@pytest.mark.parametrize(
    "value",
    [
        b"no json",
        b"[]",
        b'{"outcome": "delivered", "agency": "market", "last_at": "x", "published_at": "y"}',
        b'{"outcome": "delivered", "agency": "market", "published_at": "2026-01-01T11:59:00", '
        b'"last_at": "2026-01-01T11:59:00+00:00"}',
    ],
)
def test_a_receipt_that_can_not_be_read_is_counted_and_the_others_are_taken(cluster: FakeKafka, value: bytes) -> None:
    """No JSON, no receipt, no times, or a time without its offset beside one with it."""
    cluster.producer().send(TOPICS.receipts, key=b"market", value=value, timestamp_ms=int(NOW.timestamp() * 1000))
    deliver(cluster, 10)
    snapshot = meter_of(cluster).measure(MARKET)
    assert (snapshot.agencies[0].latencies.delivered, snapshot.unreadable) == (1, 1)


def test_an_event_is_read_once_however_often_the_backlog_is_measured(cluster: FakeKafka) -> None:
    """The count follows cursor and end without reading again what was counted; only a new oldest one is looked at."""
    reads = CountedReads(cluster)
    meter = meter_of(reads)
    publish(cluster, 300, 500)
    assert market(meter).backlog == 300
    first = reads.records
    for _ in range(5):
        meter.measure(MARKET)
    assert reads.records == first
    commit(cluster, 100)
    publish(cluster, 7, 30)
    lag = market(meter)
    assert (lag.backlog, lag.oldest_age_s, reads.records - first) == (207, 500.0, 7)
    commit(cluster, 302)
    lag = market(meter)
    assert (lag.backlog, lag.oldest_age_s) == (5, 30.0)
    commit(cluster, 0)
    assert market(meter).backlog == 307


def test_a_long_backlog_is_counted_up_to_its_limit_and_on_from_there(cluster: FakeKafka) -> None:
    """Beyond the limit the count is a lower bound and says so; it is exact again as soon as what is left fits."""
    publish(cluster, COUNT_LIMIT + 200, 30)
    meter = meter_of(cluster)
    lag = market(meter)
    assert (lag.backlog, lag.backlog_exact) == (COUNT_LIMIT, False)
    commit(cluster, 300)
    lag = market(meter)
    assert (lag.backlog, lag.backlog_exact) == (COUNT_LIMIT - 100, True)


def test_what_could_not_be_read_does_not_count_as_read(cluster: FakeKafka) -> None:
    """A broker that stalls between telling the end and giving the records hides no backlog, then or later."""
    publish(cluster, 5, 30)
    stalled = StalledReads(cluster)
    meter = meter_of(stalled)
    with pytest.raises(KafkaUnavailableError):
        meter.measure(MARKET)
    stalled.stalled = False
    lag = market(meter)
    assert (lag.backlog, lag.oldest_age_s) == (5, 30.0)


def test_deliveries_are_all_counted_though_not_all_are_kept() -> None:
    """Many a second in a quarter of an hour are more than the percentiles need; what has passed counts no longer."""
    window = Window()
    for n in range(3 * SAMPLE_LIMIT):
        window.add(1000.0 + n / 100, float(n))
    assert (window.count, len(window.latencies_ms())) == (3 * SAMPLE_LIMIT, SAMPLE_LIMIT)
    window.forget_before(1100.0)
    assert (window.count, window.latencies_ms()[0]) == (SAMPLE_LIMIT, 2.0 * SAMPLE_LIMIT)
    window.forget_before(1500.0)
    assert (window.count, window.latencies_ms()) == (0, [])


def test_what_has_no_topics_is_not_measured(cluster: FakeKafka) -> None:
    """An agency whose feed is not there, or is there no more, is left out; the others are measured."""
    publish(cluster, 1, 30)
    found = meter_of(cluster).measure({"market": "webhook", "gone": "webhook"})
    assert [one.agency for one in found.agencies] == ["market"]


def test_each_group_is_asked_once_for_its_offsets(cluster: FakeKafka) -> None:
    """However many topics it follows."""
    reads = CountedReads(cluster)
    meter_of(reads).measure(MARKET)
    assert sorted(reads.asked) == ["ledger", "pusher", "router", "statistics"]


def test_people_are_shown_the_groups_that_lag(cluster: FakeKafka, capsys: pytest.CaptureFixture[str]) -> None:
    """Or all of them, asked for."""
    cluster.producer().send(TOPICS.events("window"), key=b"k", value=b"v", partition=4)
    snapshot = meter_of(cluster).measure({})
    print_snapshot(snapshot)
    told = capsys.readouterr().out
    assert (TOPICS.events("window") in told, TOPICS.events("health") in told) == (True, False)
    print_snapshot(snapshot, every=True)
    assert TOPICS.events("health") in capsys.readouterr().out
    print_snapshot(replace(snapshot, groups=[]))
    assert "没有积压" in capsys.readouterr().out
