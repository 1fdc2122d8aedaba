"""A transaction that never ends hides what comes after it, and everybody would look as if nobody lagged."""

from __future__ import annotations

import pytest

from consumers.monitor.meter import LagMeter
from consumers.monitor.showing import print_snapshot
from services.delivery.lag import OpenTransaction, Snapshot
from services.runtime.kafka.port import Partition
from tests.fakes.hand_clock import NOW, HandClock
from tests.fakes.kafka import FakeKafka
from tests.lagging import MARKET, TOPICS, meter_of

FEED = TOPICS.feed("market")


def looks(meter: LagMeter, clock: HandClock, until_s: int) -> Snapshot:
    """Look every second until then, and return the last snapshot."""
    for second in range(int(clock.seconds) + 1, until_s + 1):
        clock.seconds = float(second)
        snapshot = meter.measure(MARKET)
    return snapshot


def test_what_is_open_for_longer_than_any_may_be_is_told_until_it_ends(
    cluster: FakeKafka, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which partition, from where on, how much, since when; it survives its way as JSON, and people read it."""
    clock = HandClock()
    meter = meter_of(cluster, clock)
    producer = cluster.transactional_producer("router-0")
    producer.begin()
    for _ in range(3):
        producer.send(FEED, key=b"k", value=b"v", partition=0)
    assert looks(meter, clock, 60).open_transactions is None, "not known yet, and told to be so"
    snapshot = looks(meter, clock, 75)
    (found,) = snapshot.open_transactions
    assert found == OpenTransaction(FEED, 0, 0, 3, found.since)
    assert found.since.startswith(f"{NOW:%Y-%m-%dT%H:%M}:01")
    assert Snapshot.from_json(snapshot.to_json()) == snapshot
    print_snapshot(snapshot)
    assert f"{FEED} 分区 0" in capsys.readouterr().out
    producer.commit()
    assert looks(meter, clock, 90).open_transactions == []


def test_one_after_the_other_is_none_that_lasts(cluster: FakeKafka) -> None:
    """A busy router has one open at nearly every look, each for a moment."""
    clock = HandClock()
    meter = meter_of(cluster, clock)
    producer = cluster.transactional_producer("router-0")
    for second in range(10, 200, 10):
        producer.begin()
        producer.send(FEED, key=b"k", value=b"v", partition=0)
        assert looks(meter, clock, second).open_transactions == ([] if second > 60 else None)
        producer.commit()


def test_the_ends_are_asked_for_every_ten_seconds_alone(cluster: FakeKafka) -> None:
    """Measuring stays cheap; and the routers' dead letters are looked at too."""
    asked: list[list[Partition]] = []
    clock = HandClock()
    meter = meter_of(cluster, clock)
    ask = meter._transactions.log_ends
    meter._transactions.log_ends = lambda places: (asked.append(places), ask(places))[1]
    looks(meter, clock, 25)
    assert len(asked) == 3
    assert Partition(FEED, 0) in asked[0]
