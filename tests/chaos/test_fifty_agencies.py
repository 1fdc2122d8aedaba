"""Fifty agencies, ten of them misbehaving in ten ways; routers and pushers are killed, stopped and joined under load.

The long run: ``HONGYAN_TESTS_HALL_EVENTS=2000 HONGYAN_TESTS_HALL_ROUNDS=10``.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from schemas.topics import Topics
from services.quarantine.parked import ParkingPlace
from services.runtime.clock import SystemClock
from services.runtime.kafka.port import Committed, Kafka, Partition
from services.runtime.settings import Settings
from tests.conditions import eventually
from tests.configuration import Configuration
from tests.conftest import OwnTopics
from tests.events import ISSUED, TestEvents, attribute, document, read_all
from tests.processes import Processes, Running
from tests.receiver_hall import BAD, Hall, Stall

pytestmark = [pytest.mark.servers, pytest.mark.timeout(1800)]

EVENTS = int(os.environ.get("HONGYAN_TESTS_HALL_EVENTS", "120"))
ROUNDS = int(os.environ.get("HONGYAN_TESTS_HALL_ROUNDS", "1"))
AGENCIES = 50
KEYS = 12
WINDOW = 8
STOPPED_S = 12.0
"""Longer than a membership lasts: whoever wakes up is a zombie."""
WAYS = dict(enumerate(BAD))
PAUSE = threading.Event()


@pytest.fixture
def hall(own: OwnTopics, configuration: Configuration, installation: Settings) -> Iterator[Hall]:
    """Fifty agencies with receivers, every fifth of which misbehaves."""
    installation.delivery.window = WINDOW
    installation.delivery.timeout_s = 1.0
    ways = {f"a{n:02d}": WAYS[n // 5] if n % 5 == 0 else "well" for n in range(AGENCIES)}
    found = Hall(ways)
    own.ensure_agency(*ways)
    for agency, stall in found.stalls.items():
        configuration.agency(agency, stall.url)
        configuration.subscription(f"s-{agency}", agency, [ISSUED])
    yield found
    found.close()


def test_every_agency_gets_every_event_in_order_whatever_happens(
    kafka: Kafka,
    topics: Topics,
    events: TestEvents,
    installation: Settings,
    processes: Processes,
    hall: Hall,
    record_property: Callable[[str, object], None],
) -> None:
    """And feeds are exact, cursors complete, and repetitions few, under the same id."""
    well = [stall for stall in hall.stalls.values() if stall.way == "well"]
    run = Installation(processes, installation)
    batch = [events.certificate(f"{n:05d}", n % KEYS) for n in range(EVENTS)]
    parts = ROUNDS * 4
    for number in range(parts):
        events.publish(*batch[number * EVENTS // parts : (number + 1) * EVENTS // parts])
        run.disrupt(number)
    eventually(lambda: all(len(set(stall.accepted())) == EVENTS for stall in well), 60, "the healthy receivers")
    (refusing,) = [stall.agency for stall in hall.stalls.values() if stall.way == "refuses some"]
    hall.heal()
    replay_parked(kafka, topics, refusing)
    eventually(
        lambda: all(len(set(stall.accepted())) == EVENTS for stall in hall.stalls.values()),
        120,
        "every event at every agency",
    )
    for stall in hall.stalls.values():
        assert_order(stall)
    repeats = {stall.agency: sum(Counter(stall.accepted()).values()) - EVENTS for stall in well}
    record_property("repeats", sum(repeats.values()))
    # A kill and a stop repeat at most what stood open; a join that was asked for repeats nothing.
    assert max(repeats.values()) <= 2 * ROUNDS * WINDOW
    assert_feeds_exact(kafka, topics, hall, {event.envelope.id for event in batch})


class Installation:
    """Two routers and three pushers, and what happens to them."""

    def __init__(self, processes: Processes, installation: Settings) -> None:
        self._processes = processes
        self._installation = installation
        self.routers = {slot: self._start("router", slot) for slot in ("0", "1")}
        self.pushers = {slot: self._start("pusher", slot) for slot in ("0", "1")}

    def _start(self, name: str, slot: str) -> Running:
        return self._processes.start(name, self._installation, slot=slot)

    def disrupt(self, number: int) -> None:
        """Kill, stop and add, one after the other."""
        slot = str(number // 4 % 2)
        match number % 4:
            case 0:
                self.pushers[slot].kill()
                self.pushers[slot] = self._start("pusher", slot)
            case 1:
                self.routers[slot].kill()
                self.routers[slot] = self._start("router", slot)
            case 2:
                stopped = self.pushers[slot].process
                stopped.send_signal(signal.SIGSTOP)
                PAUSE.wait(STOPPED_S)
                stopped.send_signal(signal.SIGCONT)
            case _:
                if "2" in self.pushers:
                    assert self.pushers.pop("2").terminate() == 0
                else:
                    self.pushers["2"] = self._start("pusher", "2")


def replay_parked(kafka: Kafka, topics: Topics, agency: str) -> None:
    """Put back what an agency has refused, once all of it has ended."""
    feed = Partition(topics.feed(agency), 0)
    end = read_all(kafka, feed.topic, 1)[-1].offset + 1
    eventually(lambda: cursor_of(kafka, topics, feed) == end, 30)
    place = ParkingPlace(kafka, topics, SystemClock())
    # A parked event may be parked twice, when its pusher was killed in between: it is one event all the same.
    first = {one.event_id: one.offset for one in reversed(place.list(agency))}
    assert first
    for offset in first.values():
        place.replay(agency, offset, "接收方已修复")


def assert_order(stall: Stall) -> None:
    """Each key's events came first in the order of publication; those refused first come after their replay."""
    refused = {one.id for one in stall.arrivals if not one.accepted}
    for key in range(KEYS):
        arrived = [one for one in dict.fromkeys(stall.accepted()) if int(one) % KEYS == key and one not in refused]
        assert arrived == sorted(arrived), f"{stall.agency} ({stall.way}), key {key}"


def assert_feeds_exact(kafka: Kafka, topics: Topics, hall: Hall, ids: set[str]) -> None:
    """Every feed has every event once (and what was replayed a second time, marked so); every cursor is at its end."""
    for agency in hall.stalls:
        records = read_all(kafka, topics.feed(agency), 1)
        first = [attribute(r, "ce_id") for r in records if attribute(r, "hongyan-reason") != "replay"]
        assert Counter(first) == Counter(ids)
        feed = Partition(topics.feed(agency), 0)
        eventually(lambda feed=feed, last=records[-1].offset: cursor_of(kafka, topics, feed) == last + 1, 20)  # type: ignore[misc]
    receipts = {(d["agency"], d["event_id"]) for d in map(document, read_all(kafka, topics.receipts, 6))}
    assert receipts == {(agency, one) for agency in hall.stalls for one in ids}


def cursor_of(kafka: Kafka, topics: Topics, feed: Partition) -> int:
    """Return a feed's committed cursor."""
    return kafka.admin().group_offsets(topics.group("pusher")).get(feed, Committed(0)).offset
