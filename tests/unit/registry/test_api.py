"""The REST API over HTTP: paths, bodies, content type and error codes as Confluent documents them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from schemas.topics import Topics
from tests.conditions import eventually
from tests.registries import CONTENT_TYPE, PatientKafka, RunningRegistry, run_registry

ONE = {"type": "record", "name": "R", "namespace": "n", "fields": [{"name": "a", "type": "int"}]}
TWO = {**ONE, "fields": [*ONE["fields"], {"name": "b", "type": "string", "default": ""}]}
BAD = {**ONE, "fields": [*ONE["fields"], {"name": "c", "type": "string"}]}


@pytest.fixture
def kafka() -> PatientKafka:
    """Return a Kafka in memory."""
    return PatientKafka()


@pytest.fixture
def registry(kafka: PatientKafka) -> Iterator[RunningRegistry]:
    """Run a registry on it."""
    with run_registry(kafka, Topics()) as found:
        yield found


@pytest.fixture
def filled(registry: RunningRegistry) -> RunningRegistry:
    """Return a registry whose subject ``s`` has two versions."""
    assert registry.register("s", ONE).body == {"id": 1}
    assert registry.register("s", TWO).body == {"id": 2}
    return registry


def test_what_is_registered_is_found_by_subject_version_and_id(filled: RunningRegistry) -> None:
    """Every read of the API, over one subject of two versions."""
    text = json.dumps(TWO, sort_keys=True, separators=(",", ":"))
    described = {"subject": "s", "version": 2, "id": 2, "schemaType": "AVRO", "schema": text}
    first = {**described, "version": 1, "id": 1, "schema": json.dumps(ONE, sort_keys=True, separators=(",", ":"))}
    expected = {
        "/": {},
        "/contexts": ["."],
        "/subjects": ["s"],
        "/subjects?subjectPrefix=x": [],
        "/subjects?subjectPrefix=:*:": ["s"],
        "/subjects?offset=1": [],
        "/subjects/s/versions": [1, 2],
        "/subjects/s/versions?limit=1": [1],
        "/subjects/s/versions/2": described,
        "/subjects/s/versions/latest": described,
        "/subjects/s/versions/-1": described,
        "/subjects/s/versions/2/schema": TWO,
        "/subjects/s/versions/2/referencedby": [],
        "/schemas": [first, described],
        "/schemas?latestOnly=true": [described],
        "/schemas/types": ["AVRO"],
        "/schemas/ids/2": {"schema": text},
        "/schemas/ids/2/schema": TWO,
        "/schemas/ids/2/subjects": ["s"],
        "/schemas/ids/2/versions": [{"subject": "s", "version": 2}],
    }
    for path, body in expected.items():
        answer = filled.call("GET", path)
        assert (answer.status, answer.body) == (200, body), path
        assert answer.headers["content-type"] == CONTENT_TYPE, path
    looked_up = filled.call("POST", "/subjects/s", {"schema": json.dumps(TWO)})
    assert looked_up.body == described


@pytest.fixture(scope="module")
def steady() -> Iterator[RunningRegistry]:
    """Return a registry like ``filled`` for many tests: none of them changes it."""
    with run_registry(PatientKafka(), Topics()) as found:
        found.register("s", ONE), found.register("s", TWO)
        yield found


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nowhere", None, 404, 404),
        ("PUT", "/subjects", None, 405, 405),
        ("GET", "/subjects/x/versions", None, 404, 40401),
        ("GET", "/subjects/x/versions/1", None, 404, 40401),
        ("GET", "/subjects/s/versions/9", None, 404, 40402),
        ("GET", "/subjects/s/versions/zero", None, 422, 42202),
        ("GET", "/subjects/s/versions/0", None, 422, 42202),
        ("GET", "/subjects?offset=-1", None, 422, 422),
        ("GET", "/schemas/ids/99", None, 404, 40403),
        ("GET", "/schemas/ids/99/subjects", None, 404, 40403),
        ("GET", "/schemas/ids/first", None, 404, 404),
        ("POST", "/subjects/x", {"schema": '"int"'}, 404, 40401),
        ("POST", "/subjects/s", {"schema": '"int"'}, 404, 40403),
        ("POST", "/subjects/s/versions", {"schema": json.dumps(BAD)}, 409, 409),
        ("POST", "/subjects/s/versions", {"schema": "{}"}, 422, 42201),
        ("POST", "/subjects/s/versions", {"schema": 1}, 422, 42201),
        ("POST", "/subjects/s/versions", {}, 422, 42201),
        ("POST", "/subjects/s/versions", "[]", 422, 422),
        ("POST", "/subjects/s/versions", "{", 400, 400),
        ("POST", "/subjects/s/versions", {"schema": "{}", "schemaType": "PROTOBUF"}, 422, 42201),
        ("POST", "/subjects/s/versions", {"schema": '"int"', "references": [{"name": "x"}]}, 422, 42201),
        ("POST", "/subjects/s/versions", {"schema": '"int"', "metadata": {"properties": {}}}, 422, 42210),
        ("POST", "/subjects/s/versions", {"schema": '"int"', "id": 7}, 422, 42205),
        ("POST", "/subjects/s%01/versions", {"schema": '"int"'}, 422, 42208),
        ("POST", "/subjects/s/versions", {"schema": '"int"', "doc": "x" * 1_100_000}, 413, 413),
        ("POST", "/subjects/s/versions", {"schema": json.dumps({**ONE, "doc": "x" * 300_000})}, 422, 42209),
        ("POST", "/compatibility/subjects/s/versions/9", {"schema": '"int"'}, 404, 40402),
        ("POST", "/compatibility/subjects/s/versions/x", {"schema": '"int"'}, 422, 42202),
        ("DELETE", "/subjects/x", None, 404, 40401),
        ("DELETE", "/subjects/s?permanent=true", None, 404, 40405),
        ("DELETE", "/subjects/s/versions/9", None, 404, 40402),
        ("DELETE", "/subjects/s/versions/1?permanent=true", None, 404, 40407),
        ("GET", "/config/s", None, 404, 40408),
        ("DELETE", "/config/s", None, 404, 40408),
        ("PUT", "/config", {"compatibility": "SIDEWAYS"}, 422, 42203),
        ("PUT", "/config/s", {"compatibility": "FULL", "defaultRuleSet": {}}, 422, 42201),
        ("PUT", "/mode", {"mode": "IMPORT"}, 422, 42204),
        ("GET", "/mode/s", None, 404, 40409),
    ],
)
def test_refusals_have_the_apis_codes_and_change_nothing(
    steady: RunningRegistry, method: str, path: str, body: object, status: int, code: int
) -> None:
    """Each refusal is JSON with error_code and message, and the subject stays as it was."""
    answer = steady.call(method, path, body)
    assert (answer.status, answer.body["error_code"]) == (status, code)
    assert answer.body["message"]
    assert answer.headers["content-type"] == CONTENT_TYPE
    assert steady.call("GET", "/subjects").body == ["s"]
    assert steady.call("GET", "/subjects/s/versions").body == [1, 2]
    assert steady.call("GET", "/config").body == {"compatibilityLevel": "BACKWARD"}


@pytest.mark.parametrize("content_type", ["application/json", "application/octet-stream", CONTENT_TYPE])
def test_bodies_are_taken_in_every_content_type_of_the_api(registry: RunningRegistry, content_type: str) -> None:
    """Clients name their JSON in several ways."""
    assert registry.call("POST", "/subjects/s/versions", {"schema": '"int"'}, content_type).body == {"id": 1}


def test_compatibility_is_checked_without_registering(filled: RunningRegistry) -> None:
    """Against the subject, one version or a subject that does not exist; messages on request."""
    path = "/compatibility/subjects/s/versions"
    good, bad = ({"schema": json.dumps(schema)} for schema in (TWO, BAD))
    assert filled.call("POST", path, good).body == {"is_compatible": True}
    assert filled.call("POST", f"{path}/latest", bad).body == {"is_compatible": False}
    told = filled.call("POST", f"{path}/1?verbose=true", bad).body
    assert not told["is_compatible"]
    assert "READER_FIELD_MISSING_DEFAULT_VALUE" in told["messages"][0]
    assert "/fields/1" in told["messages"][0]
    for version in ("", "/latest"):
        unknown = filled.call("POST", f"/compatibility/subjects/x/versions{version}?verbose=true", bad)
        assert unknown.body == {"is_compatible": True, "messages": []}
    assert filled.call("GET", "/subjects/s/versions").body == [1, 2]


def test_levels_are_set_read_and_taken_back(filled: RunningRegistry) -> None:
    """The overall level, a subject's own, and the way back."""
    assert filled.call("PUT", "/config", {"compatibility": "full"}).body == {"compatibility": "FULL"}
    assert filled.call("PUT", "/config/s", {"compatibility": "NONE"}).body == {"compatibility": "NONE"}
    assert filled.call("GET", "/config/s").body == {"compatibilityLevel": "NONE"}
    assert filled.register("s", BAD).status == 200
    assert filled.call("DELETE", "/config/s").body == {"compatibilityLevel": "NONE"}
    assert filled.call("GET", "/config/s?defaultToGlobal=true").body == {"compatibilityLevel": "FULL"}
    assert filled.call("DELETE", "/config").body == {"compatibilityLevel": "FULL"}
    assert filled.call("GET", "/config").body == {"compatibilityLevel": "BACKWARD"}


def test_read_only_mode_refuses_what_is_new(filled: RunningRegistry) -> None:
    """A known schema is still answered; a new one is not permitted."""
    assert filled.call("PUT", "/mode", {"mode": "READONLY"}).body == {"mode": "READONLY"}
    assert filled.call("GET", "/mode/s?defaultToGlobal=true").body == {"mode": "READONLY"}
    assert filled.register("s", TWO).body == {"id": 2}
    assert filled.register("t", TWO).body["error_code"] == 42205
    assert filled.call("PUT", "/mode/t", {"mode": "READWRITE"}).status == 200
    assert filled.register("t", TWO).body == {"id": 2}
    assert filled.call("DELETE", "/mode").body == {"mode": "READONLY"}
    assert filled.call("GET", "/mode").body == {"mode": "READWRITE"}


def test_deleted_versions_are_shown_only_on_request(filled: RunningRegistry) -> None:
    """Soft deletion hides, permanent deletion removes; the id answers on."""
    assert filled.call("DELETE", "/subjects/s/versions/latest").body == 2
    assert filled.call("GET", "/subjects/s/versions").body == [1]
    assert filled.call("GET", "/subjects/s/versions?deletedOnly=true").body == [2]
    assert filled.call("GET", "/subjects/s/versions/2?deleted=true").status == 200
    assert filled.call("DELETE", "/subjects/s").body == [1]
    assert filled.call("GET", "/subjects").body == []
    assert filled.call("GET", "/subjects?deleted=true").body == ["s"]
    assert filled.call("POST", "/subjects/s", {"schema": json.dumps(ONE)}).body["error_code"] == 40401
    assert filled.call("POST", "/subjects/s?deleted=true", {"schema": json.dumps(ONE)}).body["id"] == 1
    assert filled.call("DELETE", "/subjects/s?permanent=true").body == [1, 2]
    assert filled.call("GET", "/subjects?deleted=true").body == []
    assert filled.call("GET", "/schemas/ids/2").status == 200


def test_without_kafka_reads_answer_and_writes_say_to_try_again(kafka: PatientKafka, filled: RunningRegistry) -> None:
    """What is known needs no Kafka, registering it again neither; only something new must wait."""
    kafka.away = True
    answer = filled.register("t", ONE)
    assert (answer.status, answer.body["error_code"], answer.headers["retry-after"]) == (503, 50003, "2")
    assert filled.call("GET", "/schemas/ids/1").status == 200
    assert filled.register("s", ONE).body == {"id": 1}
    assert filled.call("GET", "/schemas/ids/9").status == 503
    health = filled.call("GET", "/health")
    assert (health.status, health.body["writable"]) == (200, False)
    kafka.away = False
    eventually(lambda: filled.register("t", ONE).status == 200)


def test_it_is_healthy_only_once_the_log_was_read(kafka: PatientKafka) -> None:
    """A registry that knows nothing yet says so instead of calling a schema unknown."""
    kafka.away = True
    with run_registry(kafka, Topics(), wait=False) as registry:
        assert registry.call("GET", "/health").status == 503
        assert registry.call("GET", "/schemas/ids/1").body["error_code"] == 50003
        kafka.away = False
        eventually(lambda: registry.call("GET", "/health").status == 200)


def test_metrics_tell_how_it_stands(filled: RunningRegistry) -> None:
    """Prometheus sees readiness and the log's position."""
    lines = filled.call("GET", "/metrics").body.splitlines()
    assert {"hongyan_registry_ready 1.0", "hongyan_registry_entries 2.0", "hongyan_registry_writable 1.0"} <= set(lines)
