"""Fifty agencies, ten of them misbehaving in ten ways; routers and pushers are killed, stopped and joined under load.

Events are published all the while, from a thread of their own. The long run:
``HONGYAN_TESTS_HALL_PER_S=30 HONGYAN_TESTS_HALL_ROUNDS=10``.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

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

PER_S = float(os.environ.get("HONGYAN_TESTS_HALL_PER_S", "4"))
ROUNDS = int(os.environ.get("HONGYAN_TESTS_HALL_ROUNDS", "1"))
AGENCIES = 50
KEYS = 12
WINDOW = 8
STOPPED_S = 12.0
"""Longer than a membership lasts: whoever wakes up is a zombie."""
WAYS = dict(enumerate(BAD))
PAUSE = threading.Event()
DISRUPTIONS = 4


@pytest.fixture
def hall(own: OwnTopics, configuration: Configuration, installation: Settings) -> Iterator[Hall]:
    """Fifty agencies with receivers, every fifth of which misbehaves."""
    installation.log.level = "DEBUG"
    installation.delivery.window = WINDOW
    installation.delivery.timeout_s = 1.0
    installation.delivery.retry_cap_s = 8.0
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
    load = Load(events)
    for number in range(ROUNDS * DISRUPTIONS):
        begun = load.published()
        run.disrupt(number)
        assert load.published() > begun, "nothing was published meanwhile"
        so_far = load.published()
        eventually(lambda so_far=so_far: arrived(well, so_far), 60, "the healthy receivers")  # type: ignore[misc]
    ids = load.end()
    (refusing,) = [stall.agency for stall in hall.stalls.values() if stall.way == "refuses some"]
    hall.heal()
    replay_parked(kafka, topics, refusing)
    eventually(lambda: arrived(hall.stalls.values(), len(ids)), 120, "every event at every agency")
    for stall in hall.stalls.values():
        assert_order(stall)
        assert_ids(stall)
    repeats = {stall.agency: len(stall.accepted()) - len(ids) for stall in hall.stalls.values()}
    record_property("events", len(ids))
    record_property("repeats", sum(repeats.values()))
    # Each beginning but the first may repeat the window that its owner of before had open, also one that was stopped.
    begun = beginnings(processes)
    assert {agency: n for agency, n in repeats.items() if n > WINDOW * (begun[agency] - 1)} == {}
    assert_feeds_exact(kafka, topics, hall, set(ids))


class Load:
    """Publishes events of a few keys from a thread, until it is told to end."""

    def __init__(self, events: TestEvents) -> None:
        self._events = events
        self._ids: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._publish, daemon=True)
        self._thread.start()

    def published(self) -> int:
        """Return how many events are on the log."""
        return len(self._ids)

    def end(self) -> list[str]:
        """Stop, and return the ids of all."""
        self._stop.set()
        self._thread.join(70)
        return self._ids

    def _publish(self) -> None:
        while not self._stop.wait(1 / PER_S):
            number = len(self._ids)
            self._events.publish(self._events.certificate(f"{number:05d}", number % KEYS))
            self._ids.append(f"{number:05d}")


class Installation:
    """Two routers and two pushers, sometimes three of each, and what happens to them."""

    def __init__(self, processes: Processes, installation: Settings) -> None:
        self._processes = processes
        self._installation = installation
        self._running = {(name, slot): self._start(name, slot) for slot in "01" for name in ("router", "pusher")}

    def _start(self, name: str, slot: str) -> Running:
        return self._processes.start(name, self._installation, slot=slot)

    def disrupt(self, number: int) -> None:
        """Kill, stop and add, one after the other; every second time what was added leaves."""
        slot = str(number // DISRUPTIONS % 2)
        match number % DISRUPTIONS:
            case 0:
                self._kill("pusher", slot)
            case 1:
                self._kill("router", slot)
            case 2:
                self._stop(self._running["pusher", slot], self._running["router", slot])
            case _ if ("pusher", "2") in self._running:
                assert [self._running.pop((name, "2")).terminate() for name in ("router", "pusher")] == [0, 0]
            case _:
                self._running |= {(name, "2"): self._start(name, "2") for name in ("router", "pusher")}

    def _kill(self, name: str, slot: str) -> None:
        self._running[name, slot].kill()
        self._running[name, slot] = self._start(name, slot)

    @staticmethod
    def _stop(*stopped: Running) -> None:
        for one in stopped:
            one.process.send_signal(signal.SIGSTOP)
        PAUSE.wait(STOPPED_S)
        for one in stopped:
            one.process.send_signal(signal.SIGCONT)


def arrived(stalls: Iterable[Stall], number: int) -> bool:
    """Tell whether all of them have accepted the first so many events."""
    wanted = {f"{n:05d}" for n in range(number)}
    return all(wanted <= set(stall.accepted()) for stall in stalls)


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


def assert_ids(stall: Stall) -> None:
    """Each event came under one webhook id however often it came, and no other event under that."""
    pairs = {(one.id, one.webhook_id) for one in stall.arrivals}
    assert len(pairs) == len({event for event, _ in pairs}) == len({webhook for _, webhook in pairs}), stall.agency


def beginnings(processes: Processes) -> Counter[str]:
    """Return how often pushers began to deliver each agency's feed, by their logs."""
    lines = [line for one in processes.running if one.name == "pusher" for line in one.log.read_bytes().splitlines()]
    return Counter(json.loads(line)["agency"] for line in lines if b'"line_begun"' in line)


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
    with closing(kafka.admin()) as admin:
        return admin.group_offsets(topics.group("pusher")).get(feed, Committed(0)).offset
