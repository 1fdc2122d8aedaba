"""Lag that does not lie: cursors, feeds and receipts of a fake Kafka, measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from consumers.monitor.exposition import LagCollector
from consumers.monitor.meter import LagMeter, measured
from consumers.monitor.showing import print_snapshot
from consumers.monitor.tally import COUNT_LIMIT
from consumers.monitor.window import SAMPLE_LIMIT, Window, percentile
from schemas.contracts import load_contracts
from schemas.receipts import REACHED_BY, Channel, Outcome, Receipt
from schemas.topics import PROBE_AGENCY, Topics
from services.delivery.lag import AgencyLag, GroupLag, Snapshot
from services.runtime.errors import KafkaUnavailableError
from services.runtime.kafka.port import Committed, Partition
from services.subscriptions.control import ControlView
from tests.fakes.kafka import FakeAdmin, FakeConsumer, FakeKafka, FakeRecord

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TOPICS = Topics()
ISSUED = "cn.gov.sc.health.medical-ad-certificate.issued"
MARKET: Mapping[str, Channel] = {"market": "webhook"}


class HandClock:
    """A clock that stands at noon until it is put on."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        """Return noon and what has passed."""
        return NOW + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        """Return what has passed."""
        return self.seconds


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
        ask = made.groups_offsets

        def noted(groups: Collection[str]) -> dict[str, dict[Partition, Committed]]:
            self.asked.extend(groups)
            return ask(groups)

        made.groups_offsets = noted  # type: ignore[method-assign]
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
        made.poll = lambda timeout_s, max_records: {} if self.stalled else poll(timeout_s, max_records)  # type: ignore[method-assign]
        return made


class GappedKafka(FakeKafka):
    """The same cluster, where some partitions end with so many ends of transactions."""

    def __init__(self, cluster: FakeKafka, markers: Mapping[Partition, int]) -> None:
        vars(self).update(vars(cluster))
        self.markers = markers

    def consumer(
        self,
        group: str | None,
        *,
        client_id: str = "hongyan",
        instance: str | None = None,
        from_end: bool = False,
        bulk: bool = False,
    ) -> FakeConsumer:
        """Make a consumer that sees the end behind them, and passes them when it polls."""
        made = super().consumer(group, client_id=client_id, instance=instance, from_end=from_end, bulk=bulk)
        ends, position = made.end_offsets, made.position

        def further(partitions: Collection[Partition]) -> dict[Partition, int]:
            return {p: end + self.markers.get(p, 0) for p, end in ends(partitions).items()}

        def passed(partition: Partition) -> int:
            at = position(partition)
            return at + self.markers.get(partition, 0) if at >= len(self.logs[partition]) else at

        made.end_offsets = further  # type: ignore[method-assign]
        made.position = passed  # type: ignore[method-assign]
        return made


@pytest.fixture
def cluster() -> FakeKafka:
    """A cluster with one agency's topics."""
    kafka = FakeKafka()
    kafka.admin().ensure_topics([*TOPICS.base_specs(load_contracts().domains()), *TOPICS.agency_specs("market")])
    return kafka


def publish(
    kafka: FakeKafka,
    count: int,
    seconds_ago: float,
    recorded: bytes | None = None,
    *,
    kind: bytes = b"t",
    why: bytes = b"match",
) -> None:
    """Put events into the feed that were published a while ago, by their own word or by the log's."""
    at = NOW - timedelta(seconds=seconds_ago)
    headers = [("ce_recordedtime", recorded or at.isoformat().encode()), ("ce_type", kind), (REACHED_BY, why)]
    for _ in range(count):
        kafka.producer().send(
            TOPICS.feed("market"),
            key=b"k",
            value=b"v",
            headers=headers,
            partition=0,
            timestamp_ms=int(at.timestamp() * 1000),
        )


def deliver(kafka: FakeKafka, milliseconds: float, outcome: Outcome = "delivered", **more: Any) -> None:
    """Write the receipt of a delivery that ended a minute ago."""
    done = NOW - timedelta(minutes=1)
    receipt = Receipt(
        "market",
        0,
        "e-1",
        "urn:test",
        ISSUED,
        "k",
        outcome,
        done.isoformat(),
        published_at=(done - timedelta(milliseconds=milliseconds)).isoformat(),
    )
    kafka.producer().send(
        TOPICS.receipts,
        key=b"market",
        value=replace(receipt, **more).to_bytes(),
        timestamp_ms=int(done.timestamp() * 1000),
    )


def commit(kafka: FakeKafka, offset: int, note: str = "") -> None:
    """Move the agency's cursor."""
    consumer = kafka.consumer(TOPICS.group("pusher"))
    consumer.commit({Partition(TOPICS.feed("market"), 0): Committed(offset, note)})


def meter_of(kafka: FakeKafka, clock: HandClock | None = None) -> LagMeter:
    """Return a meter."""
    return LagMeter(kafka, TOPICS, load_contracts(), clock or HandClock())


def market(meter: LagMeter, channel: Channel = "webhook") -> AgencyLag:
    """Return the agency's lag."""
    return meter.measure({"market": channel}).agencies[0]


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


def test_what_is_told_again_is_nobodys_delay(cluster: FakeKafka) -> None:
    """A backfill and a replay were published long ago: neither their delivery nor their waiting is aged from then."""
    deliver(cluster, 10)
    for why in ("backfill", "replay"):
        deliver(cluster, 86_400_000, reached_by=why)
    publish(cluster, 1, 86_400, why=b"backfill")
    lag = market(meter_of(cluster))
    assert (lag.latencies.delivered, lag.latencies.p99_ms, lag.oldest_age_s) == (1, 10.0, 0.0)


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
