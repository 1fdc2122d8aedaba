"""The gateway as a department meets it: every form of event, and every way of being refused."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import pytest
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from schemas.contracts import load_contracts
from services.runtime.kafka.port import Kafka
from services.runtime.settings import Settings
from tests.conditions import eventually
from tests.configuration import Configuration
from tests.conftest import OwnTopics
from tests.events import ISSUED, REVOKED, SOURCE, TestEvents, attribute, read_all
from tests.processes import Processes

pytestmark = pytest.mark.servers

KEY = "hyk_test"
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
Post = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def domains() -> list[str]:
    """Nothing is published elsewhere."""
    return ["health", "window"]


@pytest.fixture
def post(configuration: Configuration, installation: Settings, processes: Processes) -> Post:
    """A gateway process, a department that may publish new certificates, and a way to post to it."""
    configuration.department("health", SOURCE, KEY, [ISSUED])
    gateway = processes.start("gateway", installation)

    def send(body: object, kind: str = STRUCTURED, key: str = KEY, **headers: str) -> tuple[int, dict[str, Any]]:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {"Content-Type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if key:
            named["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{gateway.url}/v1/events", payload, named)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    return send


def event(event_id: str = "e1", **changes: Any) -> dict[str, Any]:
    """Return a certificate's event in structured form."""
    data = {**load_contracts().types[ISSUED].sample, **changes}
    return {"specversion": "1.0", "id": event_id, "type": ISSUED, "data": data}


def pointers(problem: Mapping[str, Any]) -> set[str]:
    """Return the fields that a problem names."""
    return {error["pointer"] for error in problem.get("errors", ())}


def published(kafka: Kafka, own: OwnTopics) -> list[str]:
    """Return the ids on the health topic."""
    return [attribute(record, "ce_id") for record in read_all(kafka, own.events("health"), 12)]


def test_an_accepted_event_stands_where_the_answer_says(kafka: Kafka, own: OwnTopics, post: Post) -> None:
    """202 comes after Kafka's acknowledgement, with the place and the quality marks."""
    status, answer = post(event(institution_uscc="12510100TE5T000249"))
    assert status == 202
    told = answer["events"][0]
    assert told["quality"] == ["institution_uscc:check-character", "time:offset-assumed"] or set(told["quality"]) == {
        "institution_uscc:check-character",
        "time:offset-assumed",
    }
    record = next(r for r in read_all(kafka, told["topic"], 12) if attribute(r, "ce_id") == "e1")
    assert (record.partition, record.offset) == (told["partition"], told["offset"])
    assert record.key == told["subject"].encode()
    assert attribute(record, "ce_source") == SOURCE


def test_another_version_of_cloudevents_is_refused_by_name(post: Post) -> None:
    """In each of the three forms; what another version means by its fields is not ours to guess."""
    old = event() | {"specversion": "0.3"}
    sample = load_contracts().types[ISSUED].sample
    status, told = post(old)
    assert (status, pointers(told)) == (422, {"/specversion"})
    status, told = post([event("v2"), old], BATCH)
    assert (status, pointers(told)) == (422, {"/1/specversion"})
    status, told = post(sample, "application/json", ce_id="v3", ce_type=ISSUED, ce_specversion="0.3")
    assert (status, pointers(told)) == (422, {"/specversion"})


def test_binary_and_batch_and_avro_come_in_too(kafka: Kafka, own: OwnTopics, post: Post, events: TestEvents) -> None:
    """All three forms of the HTTP binding, with JSON or Avro data, end as the same kind of record."""
    sample = load_contracts().types[ISSUED].sample
    assert post(sample, "application/json", ce_id="b1", ce_type=ISSUED, ce_specversion="1.0")[0] == 202
    avro = events.certificate("whatever", 7).value
    assert post(avro, "application/vnd.confluent.avro", ce_id="b2", ce_type=ISSUED)[0] == 202
    stray = avro[:1] + (4711).to_bytes(4, "big") + avro[5:]
    status, told = post(stray, "application/vnd.confluent.avro", ce_id="b2", ce_type=ISSUED)
    assert (status, pointers(told)) == (422, {"/data"})
    status, answer = post([event("b3"), event("b4")], BATCH)
    assert (status, answer["accepted"]) == (202, 2)
    assert sorted(published(kafka, own)) == ["b1", "b2", "b3", "b4"]


def test_every_bad_field_of_every_event_is_named_and_nothing_is_accepted(
    kafka: Kafka, own: OwnTopics, post: Post
) -> None:
    """A batch with two bad events is refused as a whole, each field by its pointer."""
    bad = event("x1", beds=-1, valid_to="nonsense", surplus=1)
    worse = event("x2", media_types=["电报"])
    worse["subject"] = "something else"
    status, problem = post([event("x0"), bad, worse], BATCH)
    assert status == 422
    assert pointers(problem) == {
        "/1/data/beds",
        "/1/data/valid_to",
        "/1/data/surplus",
        "/2/data/media_types/0",
        "/2/subject",
    }
    assert published(kafka, own) == []


def test_refusals_name_what_is_wrong(kafka: Kafka, own: OwnTopics, post: Post) -> None:
    """No key, a missing right, a foreign source, an unknown type, a wrong subject, a wrong media type."""
    assert post(event(), key="")[0] == 401
    status, unknown_key = post(event(), key="hyk_other")
    assert (status, "没有哪个部门有这把密钥" in unknown_key["detail"]) == (401, True)
    revoked = {**event(), "type": REVOKED}
    assert (status := post(revoked))[0] == 403
    assert pointers(status[1]) == {"/type"}
    foreign = post({**event(), "source": "urn:somebody-else"})
    assert (foreign[0], pointers(foreign[1])) == (403, {"/source"})
    unknown = post({**event(), "type": "cn.gov.sc.health.nothing.done"})
    assert (unknown[0], pointers(unknown[1])) == (422, {"/type"})
    subject = post({**event(), "subject": "wrong"})
    assert (subject[0], pointers(subject[1])) == (422, {"/subject"})
    assert post(b"a,b", "text/csv")[0] == 415
    assert post(b"{not json")[0] == 422
    assert published(kafka, own) == []


def test_what_is_too_large_is_refused(kafka: Kafka, own: OwnTopics, post: Post) -> None:
    """A body over 1 MiB and a batch over 1000 events: 413 that says which part is too much, and nothing accepted."""
    status, body = post(event(address="x" * (1024 * 1024)))
    assert (status, pointers(body)) == (413, {""})
    small = {"id": "1", "type": ISSUED, "data": {}}
    status, batch = post([small] * 1001, BATCH)
    assert (status, pointers(batch)) == (413, {"/1000"})
    assert published(kafka, own) == []


def test_what_kafka_refuses_for_its_size_is_not_to_be_sent_again(
    kafka_address: str, kafka: Kafka, own: OwnTopics, post: Post
) -> None:
    """A topic whose operator made its limit smaller: 413 that names the data, not 503; the event beside it is taken."""
    admin = KafkaAdminClient(bootstrap_servers=kafka_address)
    topic = ConfigResource(ConfigResourceType.TOPIC, own.events("health"), {"max.message.bytes": "50000"})
    admin.alter_configs([topic])
    admin.close()
    early = (event(f"early-{n}", address="x" * 60_000) for n in count())
    eventually(lambda: post(next(early))[0] == 413, what="the broker goes by its new limit")
    large = event("large", address="x" * 60_000)
    status, problem = post(large)
    assert (status, pointers(problem)) == (413, {"/data"})
    status, problem = post([event("small"), large], BATCH)
    assert (status, pointers(problem), problem["accepted"]) == (413, {"/1/data"}, 1)
    assert [one["status"] for one in problem["events"]] == [202, 413]
    assert [one for one in published(kafka, own) if not one.startswith("early")] == ["small"]


def test_an_event_too_large_for_its_topic_names_its_largest_field(
    kafka: Kafka, own: OwnTopics, installation: Settings, configuration: Configuration, processes: Processes
) -> None:
    """Where larger bodies are let in, the event's own limit holds: 413 by the field, and nothing is sent to Kafka."""
    configuration.department("health", SOURCE, KEY, [ISSUED])
    installation.gateway.max_body_bytes = 4 * 1024 * 1024
    gateway = processes.start("gateway", installation)
    named = {"Content-Type": STRUCTURED, "Authorization": f"Bearer {KEY}"}
    payload = json.dumps(event(address="x" * 1_400_000)).encode()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(f"{gateway.url}/v1/events", payload, named), timeout=20)
    with refused.value as answer:
        assert (answer.code, pointers(json.load(answer))) == (413, {"/data/address"})
    assert published(kafka, own) == []


def test_a_new_key_works_without_a_restart(configuration: Configuration, post: Post) -> None:
    """The gateway follows the control topic: a department that is added may publish at once."""
    assert post(event(), key="hyk_new")[0] == 401
    configuration.department("new", "urn:new", "hyk_new", [ISSUED])
    eventually(lambda: post(event("n1"), key="hyk_new")[0] == 202)
