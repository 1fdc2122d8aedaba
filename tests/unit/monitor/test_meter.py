"""Lag that does not lie: cursors, feeds and receipts of a fake Kafka, measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from consumers.monitor.commands import print_snapshot
from consumers.monitor.meter import LagMeter
from consumers.monitor.process import LagCollector
from consumers.monitor.snapshot import AgencyLag, group_lag, percentile
from consumers.monitor.tally import COUNT_LIMIT
from consumers.monitor.window import SAMPLE_LIMIT, Window
from schemas.topics import Topics
from services.runtime.errors import KafkaUnavailableError
from services.runtime.kafka.port import Committed, Partition
from tests.fakes.kafka import FakeAdmin, FakeConsumer, FakeKafka, FakeRecord

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


class CountedReads(FakeKafka):
    """The same cluster, with a count of the records that are read and a note of the groups that are asked for."""

    def __init__(self, cluster: FakeKafka) -> None:
        vars(self).update(vars(cluster))
        self.records = 0
        self.asked: list[str] = []

    def consumer(
        self,
        group: str | None,
        *,
        client_id: str = "hongyan",
        instance: str | None = None,
        from_end: bool = False,
        bulk: bool = False,
    ) -> FakeConsumer:
        """Make a consumer that counts."""
        made = super().consumer(group, client_id=client_id, instance=instance, from_end=from_end, bulk=bulk)
        poll = made.poll

        def counted(timeout_s: float, max_records: int) -> Mapping[Partition, Sequence[FakeRecord]]:
            found = poll(timeout_s, max_records)
            self.records += sum(map(len, found.values()))
            return found

        made.poll = counted  # type: ignore[method-assign]
        return made

    def admin(self) -> FakeAdmin:
        """Make an admin client that notes."""
        made = super().admin()
        ask = made.group_offsets

        def noted(group: str) -> dict[Partition, Committed]:
            self.asked.append(group)
            return ask(group)

        made.group_offsets = noted  # type: ignore[method-assign]
        return made


class StalledReads(FakeKafka):
    """The same cluster, which gives no records for now."""

    def __init__(self, cluster: FakeKafka) -> None:
        vars(self).update(vars(cluster))
        self.stalled = True

    def consumer(
        self,
        group: str | None,
        *,
        client_id: str = "hongyan",
        instance: str | None = None,
        from_end: bool = False,
        bulk: bool = False,
    ) -> FakeConsumer:
        """Make a consumer that waits in vain."""
        made = super().consumer(group, client_id=client_id, instance=instance, from_end=from_end, bulk=bulk)
        poll = made.poll
        made.poll = lambda timeout_s, most: {} if self.stalled else poll(timeout_s, most)  # type: ignore[method-assign]
        return made


@pytest.fixture
def cluster() -> FakeKafka:
    """A cluster with one agency's topics."""
    kafka = FakeKafka()
    kafka.admin().ensure_topics([*TOPICS.base_specs(["health", "window"]), *TOPICS.agency_specs("market")])
    return kafka


def publish(kafka: FakeKafka, count: int, seconds_ago: float, recorded: bytes | None = None) -> None:
    """Put events into the feed that were published a while ago, by their own word or by the log's."""
    at = NOW - timedelta(seconds=seconds_ago)
    headers = [("ce_recordedtime", recorded or at.isoformat().encode())]
    for _ in range(count):
        kafka.producer().send(
            TOPICS.feed("market"),
            key=b"k",
            value=b"v",
            headers=headers,
            partition=0,
            timestamp_ms=int(at.timestamp() * 1000),
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


def meter_of(kafka: FakeKafka) -> LagMeter:
    """Return a meter."""
    return LagMeter(kafka, TOPICS, ["health", "window"], FixedClock())


def measured(kafka: FakeKafka) -> AgencyLag:
    """Return the agency's lag."""
    return meter_of(kafka).measure(["market"]).agencies[0]


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
    snapshot = meter_of(cluster).measure([])
    lags = {(group.group, group.topic): group.lag for group in snapshot.groups}
    for group in ("router", "statistics", "ledger"):
        assert lags[group, TOPICS.events("window")] == 3
    assert {("ledger", TOPICS.ledger_routed), ("ledger", TOPICS.receipts)} <= lags.keys()
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
    collector.snapshot = meter_of(cluster).measure(["market"])
    values = {sample.name: sample.value for family in collector.collect() for sample in family.samples}
    assert values["hongyan_backlog_events"] == 2
    assert values["hongyan_oldest_undelivered_seconds"] == 30


@pytest.mark.parametrize("recorded", [b"2026-01-01T11:59:00", b"yesterday", b"\xff\xfe"])
def test_a_time_that_can_not_be_read_is_counted_and_the_logs_own_stands_in(cluster: FakeKafka, recorded: bytes) -> None:
    """Without an offset, no time at all, or no text: each is counted once, however often it is measured."""
    publish(cluster, 1, 30, recorded)
    meter = meter_of(cluster)
    for _ in range(3):
        snapshot = meter.measure(["market"])
        assert (snapshot.agencies[0].oldest_age_s, snapshot.unreadable) == (30.0, 1)
    collector = LagCollector()
    collector.snapshot = snapshot
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
    snapshot = meter_of(cluster).measure(["market"])
    assert (snapshot.agencies[0].delivered, snapshot.unreadable) == (1, 1)


def test_an_event_is_read_once_however_often_the_backlog_is_measured(cluster: FakeKafka) -> None:
    """The count follows cursor and end without reading again what was counted; only a new oldest one is looked at."""
    reads = CountedReads(cluster)
    meter = LagMeter(reads, TOPICS, ["health", "window"], FixedClock())
    publish(cluster, 300, 500)
    assert meter.measure(["market"]).agencies[0].backlog == 300
    first = reads.records
    for _ in range(5):
        meter.measure(["market"])
    assert reads.records == first
    commit(cluster, 100)
    publish(cluster, 7, 30)
    lag = meter.measure(["market"]).agencies[0]
    assert (lag.backlog, lag.oldest_age_s, reads.records - first) == (207, 500.0, 7 + 1)
    commit(cluster, 302)
    lag = meter.measure(["market"]).agencies[0]
    assert (lag.backlog, lag.oldest_age_s) == (5, 30.0)
    commit(cluster, 0)
    assert meter.measure(["market"]).agencies[0].backlog == 307


def test_a_long_backlog_is_counted_up_to_its_limit_and_on_from_there(cluster: FakeKafka) -> None:
    """Beyond the limit the count is a lower bound and says so; it is exact again as soon as what is left fits."""
    publish(cluster, COUNT_LIMIT + 200, 30)
    meter = meter_of(cluster)
    lag = meter.measure(["market"]).agencies[0]
    assert (lag.backlog, lag.backlog_exact) == (COUNT_LIMIT, False)
    commit(cluster, 300)
    lag = meter.measure(["market"]).agencies[0]
    assert (lag.backlog, lag.backlog_exact) == (COUNT_LIMIT - 100, True)


def test_an_agency_that_pulls_is_measured_by_its_own_cursor(cluster: FakeKafka) -> None:
    """The greater one of both groups is the cursor, whichever channel moved it."""
    publish(cluster, 5, 30)
    commit(cluster, 1)
    place = Partition(TOPICS.feed("market"), 0)
    cluster.admin().set_group_offsets(TOPICS.agency_group("market"), {place: Committed(4)})
    assert meter_of(cluster).measure(["market"], ["market"]).agencies[0].backlog == 1


def test_what_could_not_be_read_does_not_count_as_read(cluster: FakeKafka) -> None:
    """A broker that stalls between telling the end and giving the records hides no backlog, then or later."""
    publish(cluster, 5, 30)
    stalled = StalledReads(cluster)
    meter = LagMeter(stalled, TOPICS, ["health", "window"], FixedClock())
    with pytest.raises(KafkaUnavailableError):
        meter.measure(["market"])
    stalled.stalled = False
    lag = meter.measure(["market"]).agencies[0]
    assert (lag.backlog, lag.oldest_age_s) == (5, 30.0)


def test_deliveries_are_all_counted_though_not_all_are_kept() -> None:
    """Many a second in a quarter of an hour are more than the percentiles need; what has passed counts no longer."""
    window = Window()
    for n in range(3 * SAMPLE_LIMIT):
        window.add(1000.0 + n / 100, float(n))
    assert (window.delivered, len(window.latencies_ms())) == (3 * SAMPLE_LIMIT, SAMPLE_LIMIT)
    window.forget_before(1100.0)
    assert (window.delivered, window.latencies_ms()[0]) == (SAMPLE_LIMIT, 2.0 * SAMPLE_LIMIT)
    window.forget_before(1500.0)
    assert (window.delivered, window.latencies_ms()) == (0, [])


def test_what_has_no_topics_is_not_measured(cluster: FakeKafka) -> None:
    """An agency whose feed is not there, or is there no more, is left out; the others are measured."""
    publish(cluster, 1, 30)
    assert [one.agency for one in meter_of(cluster).measure(["market", "gone"]).agencies] == ["market"]


def test_each_group_is_asked_once_for_its_offsets(cluster: FakeKafka) -> None:
    """However many topics it follows."""
    reads = CountedReads(cluster)
    LagMeter(reads, TOPICS, ["health", "window"], FixedClock()).measure(["market"])
    assert sorted(reads.asked) == ["ledger", "pusher", "router", "statistics"]


def test_people_are_shown_the_groups_that_lag(cluster: FakeKafka, capsys: pytest.CaptureFixture[str]) -> None:
    """Or all of them, asked for."""
    cluster.producer().send(TOPICS.events("window"), key=b"k", value=b"v", partition=4)
    snapshot = meter_of(cluster).measure([])
    print_snapshot(snapshot)
    told = capsys.readouterr().out
    assert (TOPICS.events("window") in told, TOPICS.events("health") in told) == (True, False)
    print_snapshot(snapshot, every=True)
    assert TOPICS.events("health") in capsys.readouterr().out
    print_snapshot(replace(snapshot, groups=[]))
    assert "没有积压" in capsys.readouterr().out
