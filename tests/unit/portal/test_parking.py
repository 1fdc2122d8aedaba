"""Parked events for people: whose they see, how many are looked through, and what is put back once."""

from __future__ import annotations

import orjson
import pytest

from schemas.codec import Codec
from schemas.contracts import load_contracts
from schemas.topics import EVENT_PARTITIONS, Topics, TopicSpec
from services.portal.parking import Parking, Wanted
from services.quarantine.parked import MOST_REPLAYED, ParkingPlace
from services.runtime.errors import ConflictError, ForbiddenError, InvalidError
from services.runtime.kafka.port import Partition
from tests.events import ISSUED
from tests.fakes.kafka import FakeKafka
from tests.fakes.schemas import MemorySchemas
from tests.fakes.virtual_time import VirtualClock

TOPICS = Topics()
WORDS = "联系人 张某 不符"
CONTRACT = load_contracts().types[ISSUED]


@pytest.fixture
def kafka() -> FakeKafka:
    """A Kafka with the parking places of two agencies: three events of the market's, one of the taxes'."""
    made = FakeKafka()
    made.admin().ensure_topics(
        [*TOPICS.agency_specs("market"), *TOPICS.agency_specs("tax"), TopicSpec(TOPICS.ledger_routed, EVENT_PARTITIONS)]
    )
    for number in range(3):
        park(made, "market", f"e{number}", "422" if number else "400")
    park(made, "tax", "t0", "422")
    return made


def park(kafka: FakeKafka, agency: str, event_id: str, status: str) -> None:
    """Park an event as the pusher does."""
    producer = kafka.producer()
    headers = {
        "ce_id": event_id,
        "ce_type": ISSUED,
        "ce_source": "urn:h",
        "ce_subject": f"k-{event_id}",
        "hongyan-status": status,
        "hongyan-refusal": f"HTTP {status}",
        "hongyan-words": WORDS,
        "hongyan-parked-at": f"2026-01-0{len(event_id)}T00:00:00+08:00",
    }
    listed = [(name, text.encode()) for name, text in headers.items()]
    producer.send(TOPICS.parked(agency), key=event_id.encode(), value=b"\x00", headers=listed, partition=0).result(1)
    producer.close()


def parking(kafka: FakeKafka) -> Parking:
    """Return what pages ask."""
    return Parking(parking_place(kafka), Codec(MemorySchemas()), load_contracts())


def parking_place(kafka: FakeKafka) -> ParkingPlace:
    """Return what the command line asks."""
    return ParkingPlace(kafka, TOPICS, VirtualClock())


def test_an_agency_sees_its_own_and_who_operates_sees_all(kafka: FakeKafka) -> None:
    """By status and words too; another's is refused, however it is asked for."""
    asked = parking(kafka)
    assert {one.event_id for one in asked.listing("market", Wanted()).shown} == {"e0", "e1", "e2"}
    assert asked.listing(None, Wanted()).waiting == {"market": 3, "tax": 1}
    assert [one.event_id for one in asked.listing(None, Wanted(status="400")).shown] == ["e0"]
    assert [one.event_id for one in asked.listing(None, Wanted(text="k-t")).shown] == ["t0"]
    with pytest.raises(ForbiddenError):
        asked.listing("market", Wanted(agency="tax"))
    with pytest.raises(ForbiddenError):
        asked.look("market", "tax", 0)
    with pytest.raises(ForbiddenError):
        asked.replay("market", "tax", [0], "r", "zhang")


def test_a_receivers_words_are_read_on_its_own_side_alone(kafka: FakeKafka) -> None:
    """They may say again what stood in the event; who operates sees the status, and finds nothing by the words."""
    asked = parking(kafka)
    for side, reason, found in (("market", f"HTTP 422: {WORDS}", 3), (None, "HTTP 422", 0)):
        shown = asked.listing(side, Wanted(status="422")).shown
        assert {one.reason for one in shown} == {reason}
        assert asked.look(side, "market", 1).parked.reason == reason
        assert asked.listing(side, Wanted(text="张某")).fitting == found
    listed = parking_place(kafka).list("market")
    assert WORDS not in str([one.to_json() for one in listed])


def test_an_event_is_put_back_once_with_who_and_why(kafka: FakeKafka) -> None:
    """One that was before is left, and told; it is on the feed once, and among those put back from then on."""
    asked = parking(kafka)
    assert asked.replay("market", "market", [0, 2], "已修好", "zhang")["back"] == [0, 2]
    again = asked.replay("market", "market", [0, 1], "已修好", "zhang")
    assert (again["back"], again["before"]) == ([1], [0])
    with pytest.raises(ConflictError):
        asked.replay("market", "market", [0], "已修好", "zhang")
    fed = [dict(record.headers)["ce_id"] for record in kafka.logs[Partition(TOPICS.feed("market"), 0)]]
    assert fed == [b"e0", b"e2", b"e1"]
    shown = asked.listing("market", Wanted(replayed=True)).shown
    assert {one.replayed for one in shown} == {"已修好（zhang）"}
    assert not asked.listing("market", Wanted()).shown


def test_too_many_at_once_and_none_are_refused(kafka: FakeKafka) -> None:
    """Before anything is read."""
    for offsets in ([], range(MOST_REPLAYED + 1)):
        with pytest.raises(InvalidError):
            parking(kafka).replay(None, "market", list(offsets), "r", "system")


def test_only_the_newest_are_looked_through(kafka: FakeKafka) -> None:
    """What was put back lies behind what it was, so that the newest tell of themselves."""
    place = ParkingPlace(kafka, TOPICS, VirtualClock())
    place.replay("market", 2, "r", "zhang")
    found = place.several(["market", "tax"], newest=2)
    assert [(one.event_id, one.replayed is not None) for one in found] == [("e2", True), ("t0", False)]


def test_what_took_its_place_since_is_not_sent_again(kafka: FakeKafka) -> None:
    """A revocation that was routed under the same key after it: the event stays, and the other is named."""
    producer = kafka.producer()
    revoked = next(
        one.type
        for one in load_contracts().types.values()
        if one.catalogue.effect == "ends" and one.domain == CONTRACT.domain
    )
    for event_id, kind in (("e0", ISSUED), ("r0", revoked)):
        entry = {"id": event_id, "source": "urn:h", "type": kind, "verdict": "routed", "topic": "events.health.v1"}
        producer.send(TOPICS.ledger_routed, key=b"e0", value=orjson.dumps(entry), headers=[], partition=0).result(1)
    producer.close()
    found = parking(kafka).replay(None, "market", [0, 1], "r", "system")
    assert (found["back"], found["superseded"]) == ([1], {0: "r0"})
