"""Lag that does not lie: cursors, feeds and receipts of a fake Kafka, measured."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import orjson
import pytest

from consumers.monitor.meter import LagMeter
from consumers.monitor.process import LagCollector
from consumers.monitor.snapshot import AgencyLag, group_lag, percentile
from schemas.topics import Topics
from services.runtime.kafka.port import Committed, Partition
from tests.fakes.kafka import FakeKafka

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TOPICS = Topics()


class FixedClock:
    """A clock that stands still."""

    def now(self) -> datetime:
        """Return noon."""
        return NOW

    def monotonic(self) -> float:
        """Return zero."""
        return 0.0


@pytest.fixture
def cluster() -> FakeKafka:
    """A cluster with one agency's topics."""
    kafka = FakeKafka()
    kafka.admin().ensure_topics([*TOPICS.base_specs(["health", "window"]), *TOPICS.agency_specs("market")])
    return kafka


def publish(kafka: FakeKafka, count: int, seconds_ago: float) -> None:
    """Put events into the feed that were published a while ago."""
    recorded = (NOW - timedelta(seconds=seconds_ago)).isoformat().encode()
    for _ in range(count):
        kafka.producer().send(
            TOPICS.feed("market"), key=b"k", value=b"v", headers=[("ce_recordedtime", recorded)], partition=0
        )


def deliver(kafka: FakeKafka, milliseconds: float, outcome: str = "delivered") -> None:
    """Write the receipt of a delivery that ended a minute ago."""
    done = NOW - timedelta(minutes=1)
    receipt = {
        "agency": "market",
        "outcome": outcome,
        "last_at": done.isoformat(),
        "published_at": (done - timedelta(milliseconds=milliseconds)).isoformat(),
    }
    stamp = int(done.timestamp() * 1000)
    kafka.producer().send(TOPICS.receipts, key=b"market", value=orjson.dumps(receipt), timestamp_ms=stamp)


def commit(kafka: FakeKafka, offset: int, note: str = "") -> None:
    """Move the agency's cursor."""
    consumer = kafka.consumer(TOPICS.group("pusher"))
    consumer.commit({Partition(TOPICS.feed("market"), 0): Committed(offset, note)})


def measured(kafka: FakeKafka) -> AgencyLag:
    """Return the agency's lag."""
    return LagMeter(kafka, TOPICS, ["health", "window"], FixedClock()).measure(["market"]).agencies[0]


def test_the_oldest_undelivered_event_is_aged_from_its_publication(cluster: FakeKafka) -> None:
    """What stands beyond the cursor counts, and the first of it gives the age."""
    publish(cluster, 2, 500)
    publish(cluster, 3, 30)
    commit(cluster, 2)
    lag = measured(cluster)
    assert (lag.backlog, lag.backlog_exact, lag.oldest_age_s) == (3, True, 30.0)


def test_an_agency_with_everything_delivered_has_no_lag(cluster: FakeKafka) -> None:
    """No age, no backlog; percentiles come from the receipts of what was delivered, and of nothing else."""
    publish(cluster, 2, 30)
    commit(cluster, 2)
    for milliseconds in (10, 20, 30, 1000):
        deliver(cluster, milliseconds)
    deliver(cluster, 99_999, outcome="parked")
    lag = measured(cluster)
    assert (lag.backlog, lag.oldest_age_s, lag.delivered) == (0, None, 4)
    assert (lag.p50_ms, lag.p95_ms, lag.p99_ms) == (20.0, 1000.0, 1000.0)


def test_an_agency_of_another_channel_lags_behind_its_own_cursor(cluster: FakeKafka) -> None:
    """What it acknowledged by pulling is not undelivered, although the pusher's cursor stands still."""
    publish(cluster, 5, 30)
    commit(cluster, 1)
    feed = Partition(TOPICS.feed("market"), 0)
    cluster.admin().set_group_offsets(TOPICS.agency_group("market"), {feed: Committed(4)})
    meter = LagMeter(cluster, TOPICS, ["health", "window"], FixedClock())
    assert [meter.measure(["market"], elsewhere).agencies[0].backlog for elsewhere in ([], ["market"])] == [4, 1]


def test_a_held_line_says_since_when_and_why(cluster: FakeKafka) -> None:
    """The pusher's commit note is shown as it is."""
    note = {"held_since": "2026-01-01T11:00:00+00:00", "why": "HTTP 503"}
    commit(cluster, 0, orjson.dumps(note).decode())
    lag = measured(cluster)
    assert (lag.held_since, lag.held_why) == (note["held_since"], "HTTP 503")


def test_group_lag_is_counted_from_the_commit_and_never_negative(cluster: FakeKafka) -> None:
    """A commit that was read before the end can be ahead of nothing; an uncommitted partition lags from its start."""
    for _ in range(3):
        cluster.producer().send(TOPICS.events("window"), key=b"k", value=b"v", partition=4)
    snapshot = LagMeter(cluster, TOPICS, ["health", "window"], FixedClock()).measure([])
    lags = {(group.group, group.topic): group.lag for group in snapshot.groups}
    assert lags["router", TOPICS.events("window")] == lags["statistics", TOPICS.events("window")] == 3
    assert lags["router", TOPICS.events("health")] == 0
    assert group_lag("g", "t", [10, 2], [5, 7]).lag == 5


def test_percentiles_are_nearest_rank() -> None:
    """The smallest sample that covers the share."""
    assert percentile([], 0.5) is None
    assert percentile([1.0], 0.99) == 1.0
    assert percentile([float(n) for n in range(1, 101)], 0.95) == 95.0


def test_prometheus_sees_the_same_snapshot(cluster: FakeKafka) -> None:
    """The collector gives what was measured, with the agency as a label."""
    publish(cluster, 2, 30)
    collector = LagCollector()
    assert collector.collect() == []
    collector.snapshot = LagMeter(cluster, TOPICS, ["health", "window"], FixedClock()).measure(["market"])
    values = {sample.name: sample.value for family in collector.collect() for sample in family.samples}
    assert values["hongyan_backlog_events"] == 2
    assert values["hongyan_oldest_undelivered_seconds"] == 30
