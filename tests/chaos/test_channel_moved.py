"""One agency is moved live over the channels: webhook, pull, Kafka and webhook again; nothing is lost or doubled."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import pytest

from services.runtime.errors import UnavailableError
from services.runtime.kafka.port import Committed, Kafka, Partition
from services.runtime.settings import Settings
from tests.conditions import eventually
from tests.configuration import Configuration
from tests.conftest import OwnTopics
from tests.events import ISSUED, TestEvents, attribute
from tests.processes import Processes
from tests.pulling import Puller
from tests.scripted_receiver import ScriptedReceiver

pytestmark = pytest.mark.servers

AGENCY, STEADY = "moving", "steady"
STRETCH = 60
PAUSE_S = 0.01


class Publishing(threading.Thread):
    """Publishes event after event until it is told to stop."""

    def __init__(self, events: TestEvents) -> None:
        super().__init__(daemon=True)
        self.ids: list[str] = []
        self.ending = threading.Event()
        self._events = events

    def run(self) -> None:
        """Publish."""
        while not self.ending.wait(PAUSE_S):
            one = f"e-{len(self.ids)}"
            self._events.publish(self._events.certificate(one, len(self.ids)))
            self.ids.append(one)


def test_an_agency_moved_over_all_channels_gets_each_event_once(
    kafka: Kafka,
    own: OwnTopics,
    installation: Settings,
    configuration: Configuration,
    events: TestEvents,
    processes: Processes,
) -> None:
    """Each channel begins where the one before it ended, while events keep coming; another agency notices nothing.

    Its own Kafka client goes on for a while after it was moved away from Kafka.

    All of it by the administration's own decisions, on a router, a pusher and a feeds API that know of nothing else.
    """
    receivers = {name: ScriptedReceiver() for name in (AGENCY, STEADY)}
    post = administration(processes.start("portal", installation).url)
    for name, receiver in receivers.items():
        post("/v1/agencies", id=name, name=name, sink=receiver.url)
        configuration.subscription(f"s-{name}", name, [ISSUED])
    key = post(f"/v1/agencies/{AGENCY}/access/keys", reason="首次发放")["key"]
    for process in ("router", "pusher"):
        processes.start(process, installation)
    puller = Puller(processes.start("feeds", installation).url, AGENCY, key)

    def move(channel: str) -> None:
        assert post(f"/v1/agencies/{AGENCY}/access/channel", channel=channel, reason="换渠道")["channel"] == channel

    publishing = Publishing(events)
    publishing.start()
    pushed = receivers[AGENCY].accepted

    eventually(lambda: len(pushed) >= STRETCH, 30, "events by webhook")
    move("pull")
    pulled = pull(puller)
    first = list(pushed)
    move("kafka")
    client = OwnClient(kafka, own)
    client.start()
    eventually(lambda: len(client.got) >= STRETCH, 30, "events by Kafka")
    move("webhook")
    eventually(lambda: "Kafka 客户端" in pushers_note(kafka, own), 30, "the webhook waits for the client")
    taken = len(client.got)
    eventually(lambda: len(client.got) >= taken + STRETCH, 30, "events by Kafka still")
    assert pushed == first, "nothing was pushed meanwhile"
    client.ending.set()
    client.join(20)
    direct = client.got
    eventually(lambda: len(pushed) >= len(first) + STRETCH, 30, "events by webhook again")
    publishing.ending.set()
    publishing.join(10)

    def received() -> list[str]:
        return [*first, *pulled, *direct, *pushed[len(first) :]]

    eventually(lambda: len(received()) >= len(publishing.ids), 30, "the last event")
    assert sorted(received(), key=number) == publishing.ids
    eventually(lambda: len(receivers[STEADY].accepted) >= len(publishing.ids), 30)
    assert sorted(receivers[STEADY].accepted, key=number) == publishing.ids
    for receiver in receivers.values():
        receiver.close()


def administration(url: str) -> Callable[..., dict[str, Any]]:
    """Return what posts to the administration API, and insists that it is done."""

    def post(path: str, **body: str) -> dict[str, Any]:
        headers = {"Authorization": "Bearer test-administration-key", "Content-Type": "application/json"}
        request = urllib.request.Request(url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    return post


def number(event_id: str) -> int:
    """Return an event's number."""
    return int(event_id.removeprefix("e-"))


def acknowledged(puller: Puller, cursor: int) -> bool:
    """Acknowledge a batch. While the pusher has not let go of the feed, the batch is the pusher's yet."""
    status = puller.ack({"up_to": cursor}).status
    assert status in {200, 503}
    return status == 200


def pull(puller: Puller) -> list[str]:
    """Take a stretch by pulling from where the agency stands; what is acknowledged is taken.

    Not before the feeds API knows of the channel: until then a batch shows what is being pushed.
    """
    eventually(lambda: puller.get("").json["channel"] == "pull", 20)
    found: list[str] = []

    def stretch() -> bool:
        batch = puller.get(wait=1)
        if batch.status == 200 and batch.json and acknowledged(puller, batch.after):
            found.extend(batch.ids)
        return len(found) >= STRETCH

    eventually(stretch, 40, "events by pulling")
    return found


class OwnClient(threading.Thread):
    """The agency's own client: it reads in the agency's group and commits each batch, until somebody stops it."""

    def __init__(self, kafka: Kafka, topics: OwnTopics) -> None:
        super().__init__(daemon=True)
        self.got: list[str] = []
        self.ending = threading.Event()
        self._kafka = kafka
        self._group = topics.agency_group(AGENCY)
        self._feed = Partition(topics.feed(AGENCY), 0)

    def run(self) -> None:
        """Read; what could not be committed comes again."""
        with closing(self._kafka.consumer(self._group)) as consumer:
            consumer.subscribe([self._feed.topic], lambda _: None, lambda _: None)
            while not self.ending.is_set():
                with suppress(UnavailableError):
                    records = consumer.poll(0.2, 100).get(self._feed, ())
                    if records:
                        consumer.commit({self._feed: Committed(records[-1].offset + 1)})
                        self.got.extend(attribute(record, "ce_id") for record in records)


def pushers_note(kafka: Kafka, topics: OwnTopics) -> str:
    """Return what the pusher notes beside the feed's cursor."""
    with closing(kafka.admin()) as admin:
        held = admin.group_offsets(topics.group("pusher"))
    return held.get(Partition(topics.feed(AGENCY), 0), Committed(0)).note
