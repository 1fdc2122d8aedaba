"""Who is given events and refuses them all does not read as well: what is parked and waits for somebody is told."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.monitor.meter import LagMeter
from consumers.monitor.parkings import MANY_REASONS, Parkings, Waiting
from schemas.receipts import Channel
from services.delivery.lag import AgencyLag, State
from services.quarantine.aside import DECIDED
from services.quarantine.parked import REPLAYED
from services.runtime.kafka.port import Partition
from tests.fakes.hand_clock import NOW, HandClock
from tests.fakes.kafka import FakeKafka
from tests.lagging import TOPICS, commit, deliver, market, meter_of, publish

PLACE = Partition("parked", 0)
DELIVERED_AT = NOW - timedelta(minutes=1)
"""When what ``deliver`` writes was taken."""


def park(kafka: FakeKafka, seconds_ago: float, why: str = "HTTP 401", *, decided: bool = False) -> int:
    """Park an event that was refused a while ago, and return its offset there."""
    at = NOW - timedelta(seconds=seconds_ago)
    headers = [("hongyan-parked-at", at.isoformat().encode()), ("hongyan-refusal", why.encode())]
    headers += [(DECIDED, b"1")] if decided else []
    sending = kafka.producer().send(TOPICS.parked("market"), key=b"k", value=b"v", headers=headers, partition=0)
    return sending.result(1).offset


def put_back(kafka: FakeKafka, offset: int) -> None:
    """Note that somebody put a parked event back."""
    headers = [(REPLAYED, str(offset).encode())]
    kafka.producer().send(TOPICS.parked("market"), key=b"k", value=b"{}", headers=headers, partition=0)


def told(lag: AgencyLag) -> tuple[State, int, str | None]:
    """Return what matters here."""
    return lag.state, lag.parked, lag.parked_why


def test_an_agency_whose_every_event_is_parked_is_not_well(cluster: FakeKafka) -> None:
    """Its line moves and nothing waits, yet it has nothing: how many, since when and why."""
    publish(cluster, 2, 30)
    commit(cluster, 2)
    meter = meter_of(cluster)
    for seconds_ago in (20, 10):
        park(cluster, seconds_ago)
    lag = market(meter)
    assert (told(lag), lag.backlog) == (("parked", 2, "HTTP 401"), 0)
    assert lag.parked_at == (NOW - timedelta(seconds=10)).isoformat()


def test_what_was_parked_before_a_delivery_is_counted_and_is_not_the_state(cluster: FakeKafka) -> None:
    """The receiver takes events again; what it refused still waits for somebody."""
    park(cluster, 90, "HTTP 422")
    deliver(cluster, 10)
    meter = meter_of(cluster)
    assert told(market(meter)) == ("ok", 1, "HTTP 422")
    park(cluster, 5)
    assert told(market(meter)) == ("parked", 2, "HTTP 401")


def test_what_was_dealt_with_waits_no_more(cluster: FakeKafka) -> None:
    """Put back, or stopped by decision."""
    first = park(cluster, 20)
    meter = meter_of(cluster)
    assert market(meter).state == "parked"
    put_back(cluster, first)
    park(cluster, 5, "the grant was stopped", decided=True)
    assert told(market(meter)) == ("ok", 0, None)


def test_a_monitor_that_starts_anew_knows_what_waits(cluster: FakeKafka) -> None:
    """However long ago it was parked: the receipts of then are not read any more."""
    park(cluster, 30 * 86_400)
    assert told(market(meter_of(cluster))) == ("parked", 1, "HTTP 401")


@pytest.mark.parametrize("channel", ["pull", "kafka"])
def test_who_fetches_for_itself_refuses_nothing(cluster: FakeKafka, channel: Channel) -> None:
    """What was parked while it was pushed to is counted all the same."""
    park(cluster, 5)
    lag = market(meter_of(cluster), channel)
    assert (lag.state, lag.parked) == ("ok", 1)


def test_a_held_line_is_held_whatever_is_parked(cluster: FakeKafka) -> None:
    """The worse of the two is the state; both are told."""
    park(cluster, 5)
    commit(cluster, 0, orjson.dumps({"held_since": NOW.isoformat(), "why": "HTTP 503"}).decode())
    lag = market(meter_of(cluster))
    assert (lag.state, lag.parked) == ("held", 1)


def test_a_parking_place_that_was_made_anew_is_read_from_its_beginning(cluster: FakeKafka) -> None:
    """What the old one held is gone, and no record that can't be read stops the measuring."""
    for _ in range(3):
        park(cluster, 5)
    meter: LagMeter = meter_of(cluster, HandClock())
    assert market(meter).parked == 3
    cluster.admin().delete_topics([TOPICS.parked("market")])
    cluster.admin().ensure_topics(TOPICS.agency_specs("market"))
    cluster.producer().send(TOPICS.parked("market"), key=b"k", value=b"v", headers=[(REPLAYED, b"\xff")], partition=0)
    park(cluster, 5)
    assert market(meter).parked == 1


@dataclass(frozen=True, slots=True)
class Parked:
    """A record of a place, as the readers give it."""

    offset: int
    headers: Sequence[tuple[str, bytes]]
    topic: str = PLACE.topic
    partition: int = PLACE.partition
    timestamp: int = 0
    key: bytes | None = None
    value: bytes | None = None


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("park"), st.sampled_from(["HTTP 401", "HTTP 422", "undecodable"])),
        st.tuples(st.just("put back"), st.integers(0, 30)),
        st.tuples(st.just("let go"), st.integers(1, 5)),
        st.tuples(st.just("read again"), st.integers(1, 5)),
    ),
    max_size=40,
)


@given(STEPS)
def test_a_place_tells_what_a_list_of_all_would(steps: Sequence[tuple[str, str | int]]) -> None:
    """Events are parked, put back, let go by the log, and some are read a second time after a failed look."""
    parkings, log, first = Parkings(), [], 0
    parkings.wanted({PLACE: 0}, {PLACE: 0})
    for what, value in steps:
        begin = len(log)
        match what:
            case "park":
                log.append(Parked(len(log), [("hongyan-refusal", str(value).encode())], timestamp=len(log) * 1000))
            case "put back":
                log.append(Parked(len(log), [(REPLAYED, str(value).encode())]))
            case "let go":
                first = min(len(log), first + int(value))
                parkings.wanted({PLACE: first}, {PLACE: len(log)})
            case _:
                begin = max(first, len(log) - int(value))
        for record in log[begin:]:
            parkings.take(PLACE, record)
        parkings.reached({PLACE: len(log)})
        waiting: dict[int, Waiting] = {}
        for record in log:
            headers = dict(record.headers)
            if REPLAYED in headers:
                waiting.pop(int(headers[REPLAYED]), None)
            elif record.offset >= first:
                waiting[record.offset] = Waiting(record.timestamp / 1000, headers["hongyan-refusal"].decode())
        newest = waiting[max(waiting)] if waiting else None
        assert parkings.of(PLACE) == (len(waiting), newest)


def test_a_million_parked_events_cost_the_monitor_little() -> None:
    """An agency that refuses everything over a weekend: some bytes each, also where each has a reason of its own."""
    parkings, count = Parkings(), 200_000
    parkings.wanted({PLACE: 0}, {PLACE: count})
    tracemalloc.start()
    try:
        for offset in range(count):
            parkings.take(PLACE, Parked(offset, [("hongyan-refusal", f"undecodable: {offset}".encode())]))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / count < 25
    assert parkings.of(PLACE) == (count, Waiting(0.0, MANY_REASONS))
