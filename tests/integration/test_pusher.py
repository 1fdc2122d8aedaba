"""The pusher on a real Kafka, against receivers that answer in every way."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import orjson
import pytest
from standardwebhooks import Webhook

from producers.publishing import Prepared
from schemas.topics import Topics, TopicSpec
from services.quarantine.parked import ParkingPlace
from services.runtime.clock import SystemClock
from services.runtime.kafka.port import Committed, Kafka, Partition
from services.runtime.settings import Settings, as_environment, with_environment
from tests.conditions import eventually
from tests.configuration import SECRET, Configuration
from tests.conftest import OwnTopics
from tests.events import CORRECTED, ISSUED, REVOKED, TestEvents, attribute, document, read_all
from tests.processes import Processes, Running
from tests.scripted_receiver import Answer, Request, Script, ScriptedReceiver

pytestmark = pytest.mark.servers
MakeReceiver = Callable[..., ScriptedReceiver]


@pytest.fixture
def domains() -> list[str]:
    """Events are put on feeds; those of one domain are on its topic too."""
    return ["health"]


@pytest.fixture
def receiver(own: OwnTopics, configuration: Configuration) -> Iterator[MakeReceiver]:
    """Makes an agency with a scripted receiver and an active subscription."""
    made: list[ScriptedReceiver] = []

    def make(agency: str, script: Script = lambda _request, _earlier: Answer()) -> ScriptedReceiver:
        found = ScriptedReceiver(script)
        made.append(found)
        own.ensure_agency(agency)
        configuration.agency(agency, found.url)
        configuration.subscription(f"sub-{agency}", agency, [ISSUED])
        return found

    yield make
    for one in made:
        one.close()


@pytest.fixture
def start(installation: Settings, processes: Processes) -> Callable[[], Running]:
    """Starts a pusher process."""
    return lambda: processes.start("pusher", installation)


def cursor(kafka: Kafka, topics: Topics, agency: str) -> Committed:
    """Return an agency's committed cursor."""
    with closing(kafka.admin()) as admin:
        return admin.group_offsets(topics.group("pusher")).get(Partition(topics.feed(agency), 0), Committed(0))


def receipts(kafka: Kafka, topics: Topics) -> list[dict[str, object]]:
    """Return all receipts."""
    return [document(record) for record in read_all(kafka, topics.receipts, 6)]


def test_a_delivery_is_the_event_signed_and_leaves_a_receipt(
    kafka: Kafka, topics: Topics, events: TestEvents, receiver: MakeReceiver, start: Callable[[], Running]
) -> None:
    """The body is the event in structured JSON; an independent Standard Webhooks library accepts the signature."""
    market = receiver("market")
    start()
    event = events.certificate("e1", 1)
    placed = events.feed("market", event)[0]
    request = eventually(lambda: market.requests and market.requests[0])
    Webhook(SECRET).verify(request.body, request.headers)
    assert request.headers["content-type"].startswith("application/cloudevents+json")
    assert int(request.headers["hongyan-cursor"]) == placed.offset
    body = request.event
    assert (body["id"], body["type"], body["subject"]) == ("e1", ISSUED, event.envelope.subject)
    assert body["data"]["certificate_no_normalised"] == "(川)医广[2025]第0000001号"
    assert body["data"]["issued_on"] == "2025-12-02"
    receipt = eventually(lambda: receipts(kafka, topics))[0]
    assert (receipt["outcome"], receipt["attempts"], receipt["cursor"]) == ("delivered", 1, placed.offset)
    eventually(lambda: cursor(kafka, topics, "market").offset == placed.offset + 1)


def test_an_overloaded_receiver_is_tried_again_under_the_same_id(
    kafka: Kafka, topics: Topics, events: TestEvents, receiver: MakeReceiver, start: Callable[[], Running]
) -> None:
    """503 twice, then 204: three attempts, one id, each signed anew, and the receipt counts them."""
    market = receiver("market", lambda _request, earlier: Answer(503 if earlier < 2 else 204))
    start()
    events.feed("market", events.certificate("e1", 1))
    eventually(lambda: market.accepted == ["e1"])
    assert [request.id for request in market.requests] == ["e1"] * 3
    assert len({request.headers["webhook-id"] for request in market.requests}) == 1
    for request in market.requests:
        Webhook(SECRET).verify(request.body, request.headers)
    assert eventually(lambda: receipts(kafka, topics))[0]["attempts"] == 3


def test_retry_after_is_honoured(events: TestEvents, receiver: MakeReceiver, start: Callable[[], Running]) -> None:
    """A receiver that asks for a second's rest gets it."""
    times: list[float] = []

    def script(_request: Request, earlier: int) -> Answer:
        times.append(time.monotonic())
        return Answer(429, {"Retry-After": "1"}) if earlier == 0 else Answer()

    market = receiver("market", script)
    start()
    events.feed("market", events.certificate("e1", 1))
    eventually(lambda: market.accepted == ["e1"])
    assert times[1] - times[0] >= 1.0


def test_events_of_one_key_stay_in_order_while_one_is_retried(
    events: TestEvents, receiver: MakeReceiver, start: Callable[[], Running]
) -> None:
    """The first event of a key is refused for now twice; the key's others wait for it."""

    def script(request: Request, earlier: int) -> Answer:
        return Answer(503) if request.id == "k1-0" and earlier < 2 else Answer()

    market = receiver("market", script)
    start()
    events.feed("market", *(events.certificate(f"k{key}-{n}", key) for n in range(4) for key in (1, 2)))
    eventually(lambda: len(market.accepted) == 8)
    for key in (1, 2):
        assert [one for one in market.accepted if one.startswith(f"k{key}")] == [f"k{key}-{n}" for n in range(4)]


def test_a_stopped_grants_events_stay_and_others_and_follow_ups_go_out(
    kafka: Kafka,
    topics: Topics,
    events: TestEvents,
    receiver: MakeReceiver,
    start: Callable[[], Running],
    configuration: Configuration,
) -> None:
    """Of an agency's two grants one is suspended while its receiver is away, another's is forwarded and suspended.

    What they have put into the feed is parked with the reason; the other grant's event and a recall go out; resumed,
    what was parked is put back, except what was revoked meanwhile.
    """
    away = [True]
    market = receiver("market", lambda _request, _earlier: Answer(503 if away[0] else 204))
    configuration.subscription("kept", "market", [ISSUED])
    configuration.subscription("province", "other", [ISSUED], forward_to=["market"])
    originals = [events.certificate(f"e{n}", n) for n in range(5)]
    events.feed("market", *originals[:2], grants="sub-market")
    events.feed("market", originals[2], grants="kept")
    events.feed("market", originals[3], grants="province")
    events.feed("market", originals[4], grants="province,kept")
    events.feed("market", events.certificate("r9", 9, REVOKED), grants="")
    start()
    eventually(lambda: market.requests)
    configuration.subscription("sub-market", "market", [ISSUED], state="suspended")
    configuration.subscription("province", "other", [ISSUED], forward_to=["market"], state="terminated")
    place = ParkingPlace(kafka, topics, SystemClock())
    # Written behind the decisions: once a second key signs, they are in force.
    configuration.agency("market", market.url, delivery={}, secrets=(SECRET, SECRET))
    eventually(lambda: " " in market.requests[-1].headers["webhook-signature"])
    away[0] = False
    eventually(lambda: sorted(market.accepted) == ["e2", "e4", "r9"], 60)
    eventually(lambda: len(place.list("market")) == 3)
    parked = {one.event_id: one for one in place.list("market")}
    assert parked.keys() == {"e0", "e1", "e3"}
    assert "sub-market 已暂停" in parked["e0"].reason
    assert "province 已终止" in parked["e3"].reason
    eventually(lambda: cursor(kafka, topics, "market") == Committed(6))
    outcomes = {r["event_id"]: r["outcome"] for r in receipts(kafka, topics)}
    assert outcomes == {"e0": "parked", "e1": "parked", "e3": "parked"} | dict.fromkeys(["e2", "e4", "r9"], "delivered")

    # Put back while it is stopped it is parked again; resumed, it goes out.
    place.replay("market", parked["e3"].offset, "test")
    eventually(lambda: len(place.list("market")) == 4)
    configuration.subscription("sub-market", "market", [ISSUED])
    place.replay_all("market", [parked["e0"].offset, parked["e1"].offset], "resumed")
    eventually(lambda: sorted(market.accepted) == ["e0", "e1", "e2", "e4", "r9"])


def test_an_operator_parks_the_event_that_a_line_is_stuck_on(
    kafka: Kafka,
    topics: Topics,
    events: TestEvents,
    receiver: MakeReceiver,
    start: Callable[[], Running],
    installation: Settings,
) -> None:
    """By its cursor and with a reason; what is not there, or has ended, is refused."""
    market = receiver("market", lambda request, _: Answer(500 if request.id == "stuck" else 204))
    start()
    fine, stuck, behind = (events.certificate(name, 1) for name in ("fine", "stuck", "behind"))
    placed = events.feed("market", fine, stuck, behind)
    eventually(lambda: len(market.requests) > 5)
    eventually(lambda: cursor(kafka, topics, "market").offset == placed[1].offset)

    def park(at: int) -> subprocess.CompletedProcess[str]:
        words = ["parked", "park", "market", "--cursor", str(at), "--reason", "接收方不能处理"]
        return subprocess.run(
            [sys.executable, "-m", "hongyan", *words],
            capture_output=True,
            text=True,
            check=False,
            env=with_environment(as_environment(installation)),
        )

    assert "has ended" in park(placed[0].offset).stderr
    assert "no event is there" in park(placed[2].offset + 5).stderr
    done = park(placed[1].offset)
    assert (done.returncode, "stuck" in done.stdout) == (0, True), done.stderr
    eventually(lambda: market.accepted == ["fine", "behind"])
    (one,) = eventually(lambda: ParkingPlace(kafka, topics, SystemClock()).list("market"))
    assert (one.event_id, one.reason) == ("stuck", "接收方不能处理")


def test_a_refused_event_is_parked_and_can_be_put_back(
    kafka: Kafka, topics: Topics, events: TestEvents, receiver: MakeReceiver, start: Callable[[], Running]
) -> None:
    """422 parks that event alone; the next is delivered; a replay delivers the parked one under its own id."""
    market = receiver("market", lambda request, _: Answer(422 if request.id == "bad" else 204))
    start()
    events.feed("market", events.certificate("bad", 1), events.certificate("good", 1))
    eventually(lambda: market.accepted == ["good"])
    place = ParkingPlace(kafka, topics, SystemClock())
    parked = eventually(lambda: place.list("market"))[0]
    assert (parked.event_id, parked.status, parked.reason) == ("bad", "422", "HTTP 422")
    outcomes = eventually(lambda: len(found := receipts(kafka, topics)) == 2 and found)
    assert {receipt["event_id"]: receipt["outcome"] for receipt in outcomes} == {"bad": "parked", "good": "delivered"}
    market.script = lambda _request, _earlier: Answer()
    place.replay("market", parked.offset, "接收方已修复")
    eventually(lambda: market.accepted == ["good", "bad"])
    assert place.list("market")[0].replayed == "接收方已修复"


def test_a_refused_event_that_its_parking_place_takes_not_whole_is_put_back_from_the_feed(
    own: OwnTopics, configuration: Configuration, kafka: Kafka, events: TestEvents, start: Callable[[], Running]
) -> None:
    """What is parked points at it; the others are delivered, and a replay finds it where it lay."""
    own.ensure(TopicSpec(own.feed("market"), 1), TopicSpec(own.parked("market"), 1, max_message_bytes=20_000))
    market = ScriptedReceiver(lambda request, earlier: Answer(422 if request.id == "large" and not earlier else 204))
    configuration.agency("market", market.url)
    configuration.subscription("sub-market", "market", [ISSUED])
    start()
    large = events.certificate("large", 1)
    large.headers.append(("ce_padding", b"x" * 30_000))
    events.feed("market", large, events.certificate("good", 1))
    eventually(lambda: market.accepted == ["good"])
    place = ParkingPlace(kafka, own, SystemClock())
    parked = eventually(lambda: place.list("market"))[0]
    assert (parked.event_id, parked.status, parked.reason) == ("large", "422", "HTTP 422")
    assert read_all(kafka, own.parked("market"), 1)[0].value == b""
    place.replay("market", parked.offset, "接收方已修复")
    eventually(lambda: market.accepted == ["good", "large"])
    assert market.requests[-1].event["padding"] == "x" * 30_000
    market.close()


def test_what_has_ended_or_been_corrected_since_is_not_put_back(
    kafka: Kafka, topics: Topics, events: TestEvents, receiver: MakeReceiver, start: Callable[[], Running]
) -> None:
    """As if it still stood, that is: of three refused events the revoked and the corrected one stay where they are."""
    market = receiver("market", lambda request, _: Answer(422 if request.id.startswith("e") else 204))
    start()
    originals = [events.certificate(f"e{n}", n) for n in range(3)]
    later = [events.certificate("r0", 0, REVOKED), events.certificate("c1", 1, CORRECTED)]
    routed(kafka, topics, *originals, *later)
    events.feed("market", *originals, *later)
    place = ParkingPlace(kafka, topics, SystemClock())
    eventually(lambda: len(place.list("market")) == 3 and set(market.accepted) == {"r0", "c1"})
    market.script = lambda _request, _earlier: Answer()
    offsets = {one.event_id: one.offset for one in place.list("market")}
    kept = place.replay_all("market", list(offsets.values()), "接收方已修复")
    assert kept == {offsets["e0"]: "r0", offsets["e1"]: "c1"}
    eventually(lambda: len(market.accepted) == 3)
    assert market.accepted[2] == "e2"
    said = {one.event_id: one.replayed or "" for one in place.list("market")}
    assert "r0" in said["e0"]
    assert "c1" in said["e1"]
    assert said["e2"] == "接收方已修复"


def routed(kafka: Kafka, topics: Topics, *events: Prepared) -> None:
    """Put on the ledger that these were routed, in this order."""
    producer = kafka.producer()
    for offset, event in enumerate(events):
        attributes = event.attributes
        entry = {"topic": topics.events("health"), "partition": 0, "offset": offset, "verdict": "routed"}
        entry |= {name: attributes[name] for name in ("source", "id", "type")}
        producer.send(topics.ledger_routed, key=event.key, value=orjson.dumps(entry), partition=0).result(10)
    producer.close()


def test_a_receiver_that_is_down_for_a_while_gets_everything_in_order(
    kafka: Kafka, topics: Topics, events: TestEvents, receiver: MakeReceiver, start: Callable[[], Running]
) -> None:
    """Its port is closed; the line is held, says since when and why, and goes on by itself when it is back."""
    market = receiver("market")
    start()
    events.feed("market", events.certificate("e0", 1))
    eventually(lambda: market.accepted == ["e0"])
    market.close()
    events.feed("market", *(events.certificate(f"e{n}", 1) for n in range(1, 30)))
    note = orjson.loads(eventually(lambda: cursor(kafka, topics, "market").note))
    assert note["held_since"]
    assert note["why"].startswith("连接不上 127.0.0.1:")
    market.open()
    eventually(lambda: len(market.accepted) == 30)
    assert market.accepted == [f"e{n}" for n in range(30)]
    eventually(lambda: cursor(kafka, topics, "market").note == "")


def test_a_dead_receiver_costs_another_agency_nothing(
    kafka: Kafka, topics: Topics, events: TestEvents, receiver: MakeReceiver, start: Callable[[], Running]
) -> None:
    """One agency's port is closed and its feed is long; the other's events arrive all the same."""
    dead, alive = receiver("dead"), receiver("alive")
    dead.close()
    start()
    events.feed("dead", *(events.certificate(f"d{n}", n) for n in range(300)))
    eventually(lambda: cursor(kafka, topics, "dead").note)
    events.feed("alive", *(events.certificate(f"a{n}", n) for n in range(100)))
    eventually(lambda: len(alive.accepted) == 100, 10)
    assert not dead.accepted
    assert cursor(kafka, topics, "dead").offset == 0


def test_gone_holds_the_line_and_asks_for_the_agencys_suspension(
    kafka: Kafka, topics: Topics, events: TestEvents, receiver: MakeReceiver, start: Callable[[], Running]
) -> None:
    """410 ends delivery without losing anything: the request is on its topic, the event still in the feed."""
    market = receiver("market", lambda _request, _earlier: Answer(410))
    start()
    events.feed("market", events.certificate("e1", 1), events.certificate("e2", 1))
    request = document(eventually(lambda: read_all(kafka, topics.control_requests, 1))[0])
    assert (request["kind"], request["agency"]) == ("suspend-agency", "market")
    eventually(lambda: "410" in cursor(kafka, topics, "market").note)
    assert len(market.requests) == 1
    assert cursor(kafka, topics, "market").offset == 0


def test_redirects_and_foreign_networks_are_never_followed(
    kafka: Kafka,
    topics: Topics,
    own: OwnTopics,
    events: TestEvents,
    configuration: Configuration,
    receiver: MakeReceiver,
    start: Callable[[], Running],
) -> None:
    """A redirect goes nowhere, and an address outside the allow-list gets no connection: both lines say why."""
    elsewhere = ScriptedReceiver()
    receiver("redirected", lambda _request, _earlier: Answer(302, {"Location": elsewhere.url}))
    own.ensure_agency("outside")
    configuration.agency("outside", "http://192.0.2.1:80/")
    configuration.subscription("s-outside", "outside", [ISSUED])
    start()
    events.feed("redirected", events.certificate("e1", 1))
    events.feed("outside", events.certificate("e1", 1))
    eventually(lambda: "302" in cursor(kafka, topics, "redirected").note)
    eventually(lambda: "192.0.2.1" in cursor(kafka, topics, "outside").note)
    assert not elsewhere.requests
    elsewhere.close()


def test_what_cannot_be_decoded_is_parked_and_dead_lettered(
    kafka: Kafka, topics: Topics, events: TestEvents, receiver: MakeReceiver, start: Callable[[], Running]
) -> None:
    """A feed's record with a corrupt body doesn't stop the line."""
    market = receiver("market")
    start()
    good = events.certificate("good", 1)
    headers = {name: value.decode() for name, value in good.headers} | {"ce_id": "corrupt"}
    events.publish_raw(topics.feed("market"), good.value[:20], good.key, headers)
    events.feed("market", good)
    eventually(lambda: market.accepted == ["good"])
    letter = eventually(lambda: read_all(kafka, topics.deadletter("pusher"), 1))[0]
    assert attribute(letter, "ce_id") == "corrupt"
    assert "undecodable" in attribute(letter, "hongyan-refusal")


def test_configuration_changes_work_while_it_runs(
    own: OwnTopics,
    events: TestEvents,
    configuration: Configuration,
    receiver: MakeReceiver,
    start: Callable[[], Running],
) -> None:
    """A new agency's feed is taken up, a new sink is used from the next attempt on, a suspension holds the line."""
    market = receiver("market")
    start()
    events.feed("market", events.certificate("e1", 1))
    eventually(lambda: market.accepted == ["e1"])
    late = receiver("late")
    events.feed("late", events.certificate("l1", 1))
    eventually(lambda: late.accepted == ["l1"])
    configuration.agency("market", market.url, state="suspended")
    configuration.agency("late", market.url)
    eventually(lambda: (events.feed("late", events.certificate("l2", 1)), "l2" in market.accepted)[1])
    events.feed("market", events.certificate("e2", 2))
    events.feed("late", events.certificate("l3", 1))
    eventually(lambda: "l3" in market.accepted)
    assert "e2" not in market.accepted
    configuration.agency("market", market.url)
    eventually(lambda: "e2" in market.accepted)
