"""The router on a real Kafka: who gets what, what the ledger says of it, and what bad records get."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from schemas.topics import EVENT_PARTITIONS, Topics, TopicSpec
from services.runtime.kafka.port import Kafka, Record
from services.runtime.settings import Settings
from tests.conditions import eventually
from tests.configuration import Configuration
from tests.conftest import OwnTopics
from tests.events import ARREARS, CORRECTED, ISSUED, REVOKED, TestEvents, attribute, document, read_all
from tests.processes import Processes

pytestmark = pytest.mark.servers
Ledger = Callable[[int], list[Record]]


@pytest.fixture
def router(own: OwnTopics, configuration: Configuration, installation: Settings, processes: Processes) -> None:
    """A router process, an agency that wants all certificates, and one that wants Chengdu's new ones alone."""
    own.ensure_agency("market", "chengdu")
    for agency in ("market", "chengdu"):
        configuration.agency(agency, "http://127.0.0.1:9/never")
    configuration.subscription("all", "market", [ISSUED, CORRECTED, REVOKED])
    configuration.subscription("city", "chengdu", [ISSUED], [{"prefix": {"division": "5101"}}])
    processes.start("router", installation)


@pytest.fixture
def ledger(kafka: Kafka, topics: Topics) -> Ledger:
    """Waits until the ledger has so many records, and returns them."""

    def read(count: int) -> list[Record]:
        found: list[Record] = []

        def enough() -> bool:
            found[:] = read_all(kafka, topics.ledger_routed, EVENT_PARTITIONS)
            return len(found) >= count

        eventually(enough, 20, f"{count} records on the ledger")
        return found

    return read


def ids(kafka: Kafka, topic: str) -> list[str]:
    """Return the event ids on a one-partition topic."""
    return [attribute(record, "ce_id") for record in read_all(kafka, topic, 1)]


@pytest.mark.usefixtures("router")
def test_an_event_reaches_the_agencies_whose_filters_match(
    kafka: Kafka, topics: Topics, events: TestEvents, ledger: Ledger
) -> None:
    """Each agency's feed holds what it is entitled to, byte for byte, and the ledger says who and why."""
    province = events.certificate("e1", 1)
    city = events.certificate("e2", 2, reviewer_division="510100", reviewer_level="city")
    events.publish(province, city)
    entries = {document(record)["id"]: document(record) for record in ledger(2)}
    assert sorted(ids(kafka, topics.feed("market"))) == ["e1", "e2"]
    assert ids(kafka, topics.feed("chengdu")) == ["e2"]
    fed = read_all(kafka, topics.feed("chengdu"), 1)[0]
    assert (fed.key, fed.value) == (city.key, city.value)
    assert attribute(fed, "hongyan-subscriptions") == "city"
    assert entries["e2"]["agencies"] == {"market": ["all"], "chengdu": ["city"]}
    assert entries["e1"]["verdict"] == "routed"


@pytest.mark.usefixtures("router")
def test_an_event_that_names_its_receivers_goes_to_nobody_else(
    own: OwnTopics, kafka: Kafka, configuration: Configuration, events: TestEvents, ledger: Ledger
) -> None:
    """Arrears reach the named agency that subscribed; not one that only subscribed, nor one that is only named."""
    for agency in ("social", "medical"):
        own.ensure_agency(agency)
        configuration.agency(agency, "http://127.0.0.1:9/never")
        configuration.subscription(f"arrears-{agency}", agency, [ARREARS])
    events.publish(events.prepare(ARREARS, "a0", notice_no="0", receivers=["social", "medical"]))
    ledger(1)
    events.publish(
        events.prepare(ARREARS, "a1", notice_no="1", receivers=["social", "market"]),
        events.prepare(ARREARS, "a2", notice_no="2", receivers=["stranger"]),
    )
    entries = {document(record)["id"]: document(record) for record in ledger(3)}
    assert ids(kafka, own.feed("social")) == ["a0", "a1"]
    assert ids(kafka, own.feed("medical")) == ["a0"]
    assert ids(kafka, own.feed("market")) == []
    assert entries["a2"]["agencies"] == {}


@pytest.mark.usefixtures("router")
def test_an_event_that_should_name_its_receivers_and_does_not_is_a_dead_letter(
    kafka: Kafka, topics: Topics, events: TestEvents, ledger: Ledger
) -> None:
    """Written past the gateway, without the attribute: nobody gets it, and the reason is on record."""
    arrears = events.prepare(ARREARS, "a1")
    headers = {name: value.decode() for name, value in arrears.headers if name != "ce_receivers"}
    events.publish_raw(arrears.topic, arrears.value, arrears.key, headers)
    assert document(ledger(1)[0])["verdict"] == "deadletter"
    letter = read_all(kafka, topics.deadletter("router"), 1)[0]
    assert "named receivers" in attribute(letter, "hongyan-reason")


@pytest.mark.usefixtures("router")
def test_a_correction_reaches_whoever_got_the_original(
    kafka: Kafka, topics: Topics, events: TestEvents, ledger: Ledger
) -> None:
    """The city asked for new certificates alone; what is corrected or revoked of them reaches it all the same."""
    city = {"reviewer_division": "510100", "reviewer_level": "city"}
    events.publish(
        events.certificate("e1", 1, **city),
        events.certificate("c1", 1, CORRECTED, **city),
        events.certificate("r1", 1, REVOKED),
        events.certificate("c2", 2, CORRECTED, **city),
    )
    entries = {document(record)["id"]: document(record) for record in ledger(4)}
    assert ids(kafka, topics.feed("chengdu")) == ["e1", "c1", "r1"]
    assert entries["r1"]["follow_up"] == ["chengdu"]
    assert entries["c2"]["follow_up"] == []


@pytest.mark.usefixtures("router")
def test_the_same_event_again_is_routed_once_and_other_content_is_a_conflict(
    kafka: Kafka, topics: Topics, events: TestEvents, ledger: Ledger
) -> None:
    """Identity is (source, id, subject): a repetition changes nothing, other content goes to the dead letter."""
    events.publish(events.certificate("e1", 1))
    events.publish(events.certificate("e1", 1))
    events.publish(events.certificate("e1", 1, beds=999))
    verdicts = [document(record)["verdict"] for record in ledger(3)]
    assert sorted(verdicts) == ["conflict", "duplicate", "routed"]
    assert ids(kafka, topics.feed("market")) == ["e1"]
    letter = read_all(kafka, topics.deadletter("router"), 1)[0]
    assert "other content" in attribute(letter, "hongyan-reason")


@pytest.mark.usefixtures("router")
def test_one_id_under_several_business_keys_names_events_of_their_own(
    kafka: Kafka, topics: Topics, events: TestEvents, ledger: Ledger
) -> None:
    """More keys than partitions, so two at least share one: what becomes of them does not hang on where they lie."""
    count = EVENT_PARTITIONS + 1
    events.publish(*(events.certificate("e1", number) for number in range(count)))
    entries = [document(record) for record in ledger(count)]
    assert {entry["verdict"] for entry in entries} == {"routed"}
    assert len({entry["partition"] for entry in entries}) < count
    assert ids(kafka, topics.feed("market")) == ["e1"] * count


@pytest.mark.usefixtures("router")
def test_what_is_no_event_goes_to_the_dead_letter_and_never_stops_the_router(
    kafka: Kafka, topics: Topics, events: TestEvents, ledger: Ledger
) -> None:
    """Each poisonous record is put aside with its reason and place; the good one after them is routed."""
    good = events.certificate("good", 1)
    headers = {name: value.decode() for name, value in good.headers}
    topic = topics.events("health")
    events.publish_raw(topic, b"no headers at all")
    events.publish_raw(topic, b"not framed", good.key, headers)
    events.publish_raw(topic, b"\x00\x00\x0f\x42\x3fbody", good.key, headers)
    events.publish_raw(topic, good.value, good.key, headers | {"ce_type": REVOKED})
    events.publish_raw(topic, good.value, b"another key", headers)
    events.publish_raw(topic, None, good.key, headers)
    events.publish_raw(topic, good.value, good.key, headers | {"ce_recordedtime": "2025-12-01T08:00:00"})
    events.publish(good)
    assert len(ledger(8)) == 8
    assert ids(kafka, topics.feed("market")) == ["good"]
    letters = read_all(kafka, topics.deadletter("router"), 1)
    reasons = " | ".join(attribute(letter, "hongyan-reason") for letter in letters)
    for part in (
        "attribute missing",
        "wire format",
        "not in the registry",
        "but the event says",
        "record key",
        "RFC 3339",
    ):
        assert part in reasons
    assert {attribute(letter, "hongyan-original-topic") for letter in letters} == {topic}


@pytest.mark.usefixtures("router")
def test_a_suspended_subscription_routes_nothing_more(
    kafka: Kafka, topics: Topics, events: TestEvents, ledger: Ledger, configuration: Configuration
) -> None:
    """A suspension on the control topic works at the next batch, without a restart."""
    events.publish(events.certificate("before", 1))
    ledger(1)
    configuration.subscription("all", "market", [ISSUED], state="suspended")
    count = 1

    def passed_over() -> bool:
        nonlocal count
        count += 1
        events.publish(events.certificate(f"after-{count}", count))
        return document(ledger(count)[-1])["agencies"] == {} or any(
            document(record)["agencies"] == {} for record in ledger(count)
        )

    eventually(passed_over, 10, "an event that the suspended subscription did not get")


def test_a_new_router_remembers_what_its_predecessor_knew(
    kafka: Kafka,
    topics: Topics,
    events: TestEvents,
    ledger: Ledger,
    own: OwnTopics,
    configuration: Configuration,
    installation: Settings,
    processes: Processes,
) -> None:
    """Another slot, with no state of its own, restores from the ledger who got what and which identities were seen."""
    own.ensure_agency("chengdu")
    configuration.agency("chengdu", "http://127.0.0.1:9/never")
    configuration.subscription("city", "chengdu", [ISSUED])
    first = processes.start("router", installation, slot="a")
    events.publish(events.certificate("e1", 1))
    ledger(1)
    assert first.terminate() == 0
    processes.start("router", installation, slot="b")
    events.publish(events.certificate("e1", 1), events.certificate("c1", 1, CORRECTED))
    entries = [document(record) for record in ledger(3)]
    assert sorted(entry["verdict"] for entry in entries) == ["duplicate", "routed", "routed"]
    assert ids(kafka, topics.feed("chengdu")) == ["e1", "c1"]


def test_a_feed_that_takes_no_record_of_this_size_costs_the_event_and_not_the_router(
    own: OwnTopics,
    kafka: Kafka,
    configuration: Configuration,
    installation: Settings,
    processes: Processes,
    events: TestEvents,
    ledger: Ledger,
) -> None:
    """The broker refuses the first, in a transaction: it is a dead letter, the others are routed, and the second one
    that is too large is measured beforehand.
    """
    own.ensure(TopicSpec(own.feed("market"), 1, max_message_bytes=60_000), TopicSpec(own.parked("market"), 1))
    configuration.agency("market", "http://127.0.0.1:9/never")
    configuration.subscription("all", "market", [ISSUED])
    processes.start("router", installation)
    large = {"ce_padding": "x" * 80_000}
    for number, extra in ((1, {}), (2, large), (3, {}), (4, large), (5, {})):
        event = events.certificate(f"e{number}", number)
        headers = {name: value.decode() for name, value in event.headers}
        events.publish_raw(event.topic, event.value, event.key, headers | extra)
    entries = {document(record)["id"]: document(record) for record in ledger(5)}
    assert {name: entry["verdict"] for name, entry in entries.items()} == {
        "e1": "routed",
        "e2": "deadletter",
        "e3": "routed",
        "e4": "deadletter",
        "e5": "routed",
    }
    assert f"{own.feed('market')}, which takes records of at most 60000 bytes" in entries["e2"]["reason"]
    assert sorted(ids(kafka, own.feed("market"))) == ["e1", "e3", "e5"]
    assert sorted(ids(kafka, own.deadletter("router"))) == ["e2", "e4"]
