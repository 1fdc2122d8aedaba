"""How the pusher stands as a whole: a frozen one is told from a receiver that hangs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from consumers.monitor.evaluation import Sample
from consumers.monitor.pushing import Pushed, pusher_delay_s, pusher_state
from schemas.topics import PROBE_AGENCY
from services.delivery.lag import GroupLag, ProbeLag, Snapshot, State
from tests.fakes.hand_clock import NOW, HandClock
from tests.fakes.kafka import FakeKafka
from tests.lagging import MARKET, TOPICS, meter_of, publish


def feed(state: State, *looks: tuple[int, int]) -> Pushed:
    """Return a feed in this state, after looks a second apart at its cursor and its end."""
    samples = [Sample(float(n), committed, end, end - committed) for n, (committed, end) in enumerate(looks)]
    return Pushed(state, samples[-1].lag, samples)


STANDS = feed("stalled", (1, 1), (1, 2), (1, 2), (1, 2), (1, 2))
MOVES = feed("ok", (1, 2), (2, 3), (3, 4), (4, 5), (5, 6))
EMPTY = feed("ok", *[(4, 4)] * 5)
HELD = feed("held", *[(1, 9)] * 5)
CAME = feed("ok", (4, 4), (4, 5), (4, 5), (5, 5), (5, 5))
JUST_CAME = feed("catching-up", (4, 4), (4, 4), (4, 4), (4, 5), (4, 5))
GONE = feed("stopped", *[(1, 2)] * 5)


@pytest.mark.parametrize(
    ("feeds", "probe", "state"),
    [
        ([], None, "ok"),
        ([EMPTY, HELD], None, "ok"),
        ([STANDS, MOVES], None, "ok"),
        ([STANDS, EMPTY, HELD], None, "stalled"),
        ([STANDS], EMPTY, "unknown"),
        ([STANDS, JUST_CAME], JUST_CAME, "unknown"),
        ([STANDS], CAME, "ok"),
        ([STANDS], STANDS, "stalled"),
        ([EMPTY], STANDS, "stalled"),
        ([EMPTY], GONE, "stopped"),
        ([MOVES, GONE], None, "stopped"),
    ],
)
def test_the_pusher_stands_still_where_nothing_that_waits_moves(
    feeds: Sequence[Pushed], probe: Pushed | None, state: State
) -> None:
    """One line that stands may be its receiver's fault; that the probe came through meanwhile tells that it is."""
    assert pusher_state(feeds, probe) == state


def test_its_delay_is_told_where_it_is_the_pushers() -> None:
    """For how long something waits; a receiver that is away adds nothing."""
    assert pusher_delay_s("stalled", [STANDS, HELD, EMPTY, JUST_CAME]) == 3.0
    assert pusher_delay_s("ok", [STANDS, HELD, MOVES]) == 0.0


def pusher(snapshot: Snapshot) -> GroupLag:
    """Return the pusher's row."""
    return next(one for one in snapshot.groups if one.group == "pusher")


def test_a_frozen_pusher_reads_stalled_with_its_delay(cluster: FakeKafka) -> None:
    """It is still a member of its group, and commits nothing; the probe's own feed is no agency's."""
    cluster.admin().ensure_topics(TOPICS.agency_specs(PROBE_AGENCY))
    cluster.consumer(TOPICS.group("pusher")).subscribe([TOPICS.control_shares], lambda _: None, lambda _: None)
    clock, probe = HandClock(), ProbeLag("late", NOW.isoformat())
    meter = meter_of(cluster, clock)
    assert pusher(meter.measure(MARKET, probe)).state == "ok"
    publish(cluster, 2, 0)
    cluster.producer().send(TOPICS.feed(PROBE_AGENCY), key=b"k", value=b"v", partition=0)
    for _ in range(4):
        clock.seconds += 1
        snapshot = meter.measure(MARKET, probe)
    found = pusher(snapshot)
    assert (found.state, found.lag, found.delay_s, found.partitions, found.members) == ("stalled", 3, 3.0, 2, 1)
    assert [one.agency for one in snapshot.agencies] == ["market"]
