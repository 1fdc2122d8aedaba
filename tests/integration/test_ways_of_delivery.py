"""Each agency's own way of delivery, with a real pusher: batches, Avro, rates, keys; and several pushers sharing."""

from __future__ import annotations

import io
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import orjson
import pytest
from fastavro import schemaless_reader

from consumers.receiver.kit import events_of
from producers.publishing import Prepared
from schemas.envelope import message_id
from schemas.registry_client import RegistryClient
from schemas.topics import Topics
from services.delivery.signing import new_private_key, public_key, verify
from services.runtime.kafka.port import Committed, Kafka, Partition
from services.runtime.settings import Settings
from tests.conditions import eventually
from tests.configuration import SECRET, Configuration
from tests.conftest import OwnTopics
from tests.events import ISSUED, TestEvents, document, read_all
from tests.processes import Processes, Running
from tests.scripted_receiver import Answer, Request, Script, ScriptedReceiver

pytestmark = pytest.mark.servers
Make = Callable[..., ScriptedReceiver]


@pytest.fixture
def domains() -> list[str]:
    """Events are put on feeds."""
    return []


@pytest.fixture
def receiver(own: OwnTopics, configuration: Configuration) -> Iterator[Make]:
    """Makes an agency with a scripted receiver, delivery settings and an active subscription."""
    made: list[ScriptedReceiver] = []

    def make(agency: str, script: Script = lambda _request, _earlier: Answer(), **more: Any) -> ScriptedReceiver:
        found = ScriptedReceiver(script)
        made.append(found)
        own.ensure_agency(agency)
        configuration.agency(agency, found.url, **more)
        configuration.subscription(f"sub-{agency}", agency, [ISSUED])
        return found

    yield make
    for one in made:
        one.close()


def ids(request: Request) -> list[str]:
    """Return the ids of the events in a request."""
    return [event.id for event in events_of(request.headers, request.body)]


def outcomes(kafka: Kafka, topics: Topics) -> dict[str, str]:
    """Return what became of each event."""
    return {d["event_id"]: d["outcome"] for d in map(document, read_all(kafka, topics.receipts, 6))}


def test_of_a_refused_batch_only_the_refused_event_is_parked(
    kafka: Kafka, topics: Topics, events: TestEvents, receiver: Make, installation: Settings, processes: Processes
) -> None:
    """A backlog comes in batches of at most ten; the batch with the bad event is taken apart."""

    def script(request: Request, _earlier: int) -> Answer:
        return Answer(422 if "e17" in ids(request) else 204)

    market = receiver("market", script, delivery={"batch": 10, "concurrency": 2})
    events.feed("market", *(events.certificate(f"e{n}", n) for n in range(40)))
    processes.start("pusher", installation)
    found = eventually(lambda: len(found := outcomes(kafka, topics)) == 40 and found, 20)
    assert {name for name, outcome in found.items() if outcome == "parked"} == {"e17"}
    sizes = Counter(len(ids(request)) for request in market.requests)
    assert max(sizes) == 10
    assert all(
        request.headers["content-type"].startswith("application/cloudevents-batch") for request in market.requests
    )
    assert [ids(request) for request in market.requests if "e17" in ids(request)][-1] == ["e17"]


def message_of(event: Prepared) -> str:
    """Return the id of the webhook that brings an event: it stands for the event's identity."""
    return message_id(event.envelope.source, event.envelope.id, event.envelope.subject)


def test_an_avro_receiver_gets_the_records_own_bytes(
    events: TestEvents, receiver: Make, installation: Settings, processes: Processes
) -> None:
    """Binary mode: an independent Avro reader decodes the body with the registry's schema; attributes are headers."""
    market = receiver("market", delivery={"format": "avro"})
    processes.start("pusher", installation)
    event = events.certificate("e1", 1)
    events.feed("market", event)
    request = eventually(lambda: market.requests and market.requests[0])
    assert request.body == event.value
    assert verify(SECRET, request.headers, request.body, time.time()) == message_of(event)
    schema = RegistryClient(installation.registry.url).schema_by_id(int.from_bytes(request.body[1:5], "big"))
    data: Any = schemaless_reader(io.BytesIO(request.body[5:]), schema, None)  # type: ignore[arg-type,call-arg]
    assert data["certificate_no_normalised"] == "(川)医广[2025]第0000001号"
    (read,) = events_of(request.headers, request.body)
    assert (read.id, read.type, read.subject) == ("e1", ISSUED, event.envelope.subject)


def test_a_receivers_rate_is_kept_to(
    events: TestEvents, receiver: Make, installation: Settings, processes: Processes
) -> None:
    """A backlog of 30 at 20 a second: no second has more than 21, and it takes about a second and a half."""
    times: list[float] = []

    def script(_request: Request, _earlier: int) -> Answer:
        times.append(time.monotonic())
        return Answer()

    market = receiver("market", script, delivery={"rate_per_s": 20})
    events.feed("market", *(events.certificate(f"e{n}", n) for n in range(30)))
    processes.start("pusher", installation)
    eventually(lambda: len(market.accepted) == 30, 15)
    assert times[-1] - times[0] > 1.3
    assert max(sum(1 for at in times if first <= at < first + 1) for first in times) <= 22


def test_both_live_keys_sign_and_a_changed_key_is_used_at_once(
    events: TestEvents, receiver: Make, configuration: Configuration, installation: Settings, processes: Processes
) -> None:
    """HMAC and ed25519 side by side, then the new one alone."""
    private = new_private_key()
    market = receiver("market", secrets=[SECRET, private])
    processes.start("pusher", installation)
    event = events.certificate("e1", 1)
    events.feed("market", event)
    first = eventually(lambda: market.requests and market.requests[0])
    for key in (SECRET, public_key(private)):
        assert verify(key, first.headers, first.body, time.time()) == message_of(event)
    configuration.agency("market", market.url, secrets=[private])

    def only_new() -> bool:
        events.feed("market", events.certificate(f"e{len(market.requests) + 1}", 1))
        return "v1," not in market.requests[-1].headers["webhook-signature"]

    eventually(only_new)


def test_a_hint_to_abort_parks_at_once_and_tells(
    kafka: Kafka, topics: Topics, events: TestEvents, receiver: Make, installation: Settings, processes: Processes
) -> None:
    """503 would be retried; with ``webhook-delivery: abort`` the event is parked after one attempt, with an alert."""
    market = receiver("market", lambda _request, _earlier: Answer(503, {"webhook-delivery": "abort"}))
    processes.start("pusher", installation)
    events.feed("market", events.certificate("e1", 1))
    eventually(lambda: outcomes(kafka, topics) == {"e1": "parked"})
    assert len(market.requests) == 1
    (alert,) = eventually(lambda: read_all(kafka, topics.alerts, 1))
    assert (document(alert)["kind"], document(alert)["labels"]["event_id"]) == ("event-parked", "e1")


def test_a_missing_topic_of_parked_events_is_told_until_it_is_there(
    kafka: Kafka, topics: Topics, events: TestEvents, receiver: Make, installation: Settings, processes: Processes
) -> None:
    """The event stays, and an alert says why; a pusher that comes after the one that raised it closes it."""
    receiver("market", lambda _request, _earlier: Answer(422))
    parked = topics.agency_specs("market")[1]
    with closing(kafka.admin()) as admin:
        admin.delete_topics([parked.name])

        def told() -> list[tuple[str, str]]:
            found = [document(record) for record in read_all(kafka, topics.alerts, 1)]
            return [(one["subject"], one["state"]) for one in found if one["kind"] == "topic-unwritable"]

        pusher = processes.start("pusher", installation)
        events.feed("market", events.certificate("e1", 1))
        eventually(lambda: told() == [("market", "open")])
        pusher.kill()
        admin.ensure_topics([parked])
        processes.start("pusher", installation)
        eventually(lambda: told() == [("market", "open"), ("market", "closed")])
    assert outcomes(kafka, topics) == {"e1": "parked"}


def cursors(kafka: Kafka, topics: Topics, *agencies: str) -> dict[str, int]:
    """Return the committed cursors."""
    with closing(kafka.admin()) as admin:
        held = admin.group_offsets(topics.group("pusher"))
    return {a: held.get(Partition(topics.feed(a), 0), Committed(0)).offset for a in agencies}


def lines(pusher: Running) -> int:
    """Return how many feeds a pusher delivers, by its own metrics."""
    with urllib.request.urlopen(f"{pusher.url}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return int(float(next(line.split()[1] for line in text.splitlines() if line.startswith("hongyan_lines "))))


def test_pushers_share_the_feeds_take_up_new_ones_at_once_and_take_over_from_a_dead_one(
    kafka: Kafka,
    topics: Topics,
    events: TestEvents,
    receiver: Make,
    installation: Settings,
    processes: Processes,
    record_property: Callable[[str, object], None],
) -> None:
    """Both have work; a new agency's first event is there within two seconds; a killed pusher's feeds move on."""
    agencies = [f"a{n}" for n in range(12)]
    receivers = {agency: receiver(agency) for agency in agencies}
    first = processes.start("pusher", installation, slot="0")
    second = processes.start("pusher", installation, slot="1")
    eventually(lambda: lines(first) + lines(second) == 12 and min(lines(first), lines(second)) >= 2, 20)
    for agency in agencies:
        events.feed(agency, *(events.certificate(f"{agency}-{n}", n) for n in range(10)))
    eventually(lambda: all(len(r.accepted) == 10 for r in receivers.values()), 20)
    began = time.monotonic()
    late = receiver("late")
    events.feed("late", events.certificate("l1", 1))
    eventually(lambda: late.accepted == ["l1"], 5)
    took = time.monotonic() - began
    record_property("new_feed_s", round(took, 2))
    assert took < 2.0
    first.kill()
    for agency in agencies:
        events.feed(agency, *(events.certificate(f"{agency}-{n}", n) for n in range(10, 20)))
    eventually(lambda: all(len(set(r.accepted)) == 20 for r in receivers.values()), 40)
    eventually(lambda: lines(second) == 13, 20)
    eventually(lambda: set(cursors(kafka, topics, *agencies).values()) == {20}, 20)


def test_a_held_receiver_costs_nothing_while_shares_are_dealt_anew(
    events: TestEvents, receiver: Make, installation: Settings, processes: Processes
) -> None:
    """A second pusher joins while one receiver never answers: nobody else's event comes twice, or late."""
    release = threading.Event()
    hanging = receiver("hanging", lambda _request, _earlier: (release.wait(20), Answer())[1])
    well = {f"w{n}": receiver(f"w{n}") for n in range(6)}
    processes.start("pusher", installation, slot="0")
    events.feed("hanging", events.certificate("h", 1))
    eventually(lambda: hanging.requests)
    for agency in well:
        events.feed(agency, *(events.certificate(f"{agency}-{n}", n) for n in range(50)))
    processes.start("pusher", installation, slot="1")
    for agency in well:
        events.feed(agency, *(events.certificate(f"{agency}-{n}", n) for n in range(50, 100)))
    eventually(lambda: all(len(r.accepted) >= 100 for r in well.values()), 20)
    assert all(Counter(r.accepted).most_common(1)[0][1] == 1 for r in well.values())
    release.set()


def test_a_receiver_whose_settings_cannot_be_used_is_held_and_told_and_mended(
    kafka: Kafka,
    topics: Topics,
    events: TestEvents,
    receiver: Make,
    configuration: Configuration,
    installation: Settings,
    processes: Processes,
) -> None:
    """Keys sealed with another master key: its events wait, an alert says why; mended, they go and it closes."""
    market = receiver("market")
    broken = {"id": "market", "name": "m", "division": "510000", "sink": market.url}
    producer = kafka.producer()
    producer.send(
        topics.control_subscriptions,
        key=b"agency/market",
        value=orjson.dumps(broken | {"keys": [{"id": "x", "sealed": "sealed-elsewhere"}]}),
        partition=0,
    ).result(10)
    processes.start("pusher", installation)
    events.feed("market", events.certificate("e1", 1))

    def states() -> list[tuple[str, str]]:
        return [(d["kind"], d["state"]) for d in map(document, read_all(kafka, topics.alerts, 1))]

    eventually(lambda: states() == [("receiver-unusable", "open")])
    assert not market.requests
    configuration.agency("market", market.url)
    eventually(lambda: market.accepted == ["e1"])
    eventually(lambda: ("receiver-unusable", "closed") in states())
