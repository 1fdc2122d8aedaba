"""The pusher under SIGKILL and SIGTERM: nothing lost, and at most the open window repeated, under the same id."""

from __future__ import annotations

from collections import Counter

import pytest
from standardwebhooks import Webhook

from schemas.topics import Topics
from services.runtime.kafka.port import Kafka
from services.runtime.settings import Settings
from tests.conditions import eventually
from tests.configuration import SECRET, Configuration
from tests.conftest import OwnTopics
from tests.events import ISSUED, TestEvents, document, read_all
from tests.processes import Processes
from tests.scripted_receiver import ScriptedReceiver

pytestmark = pytest.mark.servers

EVENTS = 400
MANY = 2000
KEYS = 40
AGENCIES = ("one", "two", "three")


@pytest.fixture
def receivers(own: OwnTopics, configuration: Configuration) -> dict[str, ScriptedReceiver]:
    """Three agencies with receivers that accept everything."""
    own.ensure_agency(*AGENCIES)
    found = {agency: ScriptedReceiver() for agency in AGENCIES}
    for agency, receiver in found.items():
        configuration.agency(agency, receiver.url)
        configuration.subscription(f"s-{agency}", agency, [ISSUED])
    return found


def first_arrivals(receiver: ScriptedReceiver, key: int) -> list[str]:
    """Return the ids of one key in the order in which each came first."""
    return list(dict.fromkeys(one for one in receiver.accepted if int(one) % KEYS == key))


def test_a_killed_pusher_loses_nothing_and_repeats_at_most_its_window(
    kafka: Kafka,
    topics: Topics,
    events: TestEvents,
    installation: Settings,
    processes: Processes,
    receivers: dict[str, ScriptedReceiver],
) -> None:
    """It is killed twice in mid-load; every event arrives, in order per key, few of them twice."""
    pusher = processes.start("pusher", installation)
    batch = [events.certificate(str(n), n % KEYS) for n in range(EVENTS)]
    for agency in AGENCIES:
        events.feed(agency, *batch)
    for share in (0.25, 0.6):
        eventually(lambda share=share: len(receivers["one"].accepted) >= share * EVENTS, 30)  # type: ignore[misc]
        pusher.kill()
        assert len(set(receivers["one"].accepted)) < EVENTS
        pusher = processes.start("pusher", installation, wait=False)
    for receiver in receivers.values():
        eventually(lambda receiver=receiver: len(set(receiver.accepted)) == EVENTS, 40)  # type: ignore[misc]
        repeats = sum(count - 1 for count in Counter(receiver.accepted).values())
        assert repeats <= 2 * installation.delivery.window
        for key in range(KEYS):
            arrived = first_arrivals(receiver, key)
            assert arrived == sorted(arrived, key=int)
        # A receiver that goes by the header alone tells repetitions too, by any implementation of the standard.
        assert len({(request.id, request.headers["webhook-id"]) for request in receiver.requests}) == EVENTS
        for request in receiver.requests:
            Webhook(SECRET).verify(request.body, request.headers)
    receipts = {(d["agency"], d["event_id"]) for d in map(document, read_all(kafka, topics.receipts, 6))}
    assert len(receipts) == EVENTS * len(AGENCIES)


def test_a_pusher_that_is_asked_to_stop_repeats_nothing(
    events: TestEvents, installation: Settings, processes: Processes, receivers: dict[str, ScriptedReceiver]
) -> None:
    """SIGTERM in mid-load: what is under way ends and is committed, and the next process goes on behind it."""
    pusher = processes.start("pusher", installation)
    events.feed("one", *(events.certificate(str(n), n % KEYS) for n in range(MANY)))
    receiver = receivers["one"]
    eventually(lambda: len(receiver.accepted) >= EVENTS // 4)
    assert pusher.terminate() == 0
    assert len(receiver.accepted) < MANY
    processes.start("pusher", installation)
    eventually(lambda: len(set(receiver.accepted)) == MANY, 60)
    assert len(receiver.accepted) == MANY
