"""The registry against Confluent's own Python client, on the real Kafka: it registers, looks up, decodes our events."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Consumer as ConfluentConsumer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.schema_registry_client import ConfigCompatibilityLevel, ServerConfig
from confluent_kafka.serialization import MessageField, SerializationContext

from schemas.codec import Codec
from schemas.contracts import EventContract, load_contracts
from schemas.registry_client import RegistryClient, SchemaRefused
from schemas.validation import ValidationRules, Validator
from services.runtime.kafka.port import Admin, Kafka
from tests.conftest import OwnTopics
from tests.registries import RunningRegistry, run_registry

CONTRACTS = load_contracts().types
CONTRACT = CONTRACTS["cn.gov.sc.window.case.accepted"]
STRICTER = {**CONTRACT.schema, "fields": [*CONTRACT.schema["fields"], {"name": "must", "type": "string"}]}
NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def registry(kafka: Kafka, topics: OwnTopics) -> Iterator[RunningRegistry]:
    """Run a registry on a log of the test's own."""
    with run_registry(kafka, topics) as found:
        yield found


@pytest.fixture
def theirs(registry: RunningRegistry) -> Iterator[SchemaRegistryClient]:
    """Return Confluent's client."""
    with SchemaRegistryClient({"url": registry.url}) as found:
        yield found


@pytest.fixture
def ours(registry: RunningRegistry) -> Iterator[RegistryClient]:
    """Return our client."""
    with closing(RegistryClient(registry.url)) as found:
        yield found


class Pair(NamedTuple):
    """Both clients of one registry."""

    theirs: SchemaRegistryClient
    ours: RegistryClient


@contextmanager
def pair(kafka: Kafka, admin: Admin) -> Iterator[Pair]:
    """Run a registry on a log of its own, with both clients."""
    topics = OwnTopics(admin)
    with (
        run_registry(kafka, topics) as found,
        SchemaRegistryClient({"url": found.url}) as theirs,
        closing(RegistryClient(found.url)) as ours,
    ):
        yield Pair(theirs, ours)
    topics.remove()


@pytest.fixture(scope="module")
def written_by_us(kafka: Kafka, admin: Admin) -> Iterator[Pair]:
    """One registry for all types, each under a subject of its own, that we register our schemas at."""
    with pair(kafka, admin) as found:
        yield found


@pytest.fixture(scope="module")
def written_by_them(kafka: Kafka, admin: Admin) -> Iterator[Pair]:
    """Another one, that their serializer registers them at: nothing is there that we brought."""
    with pair(kafka, admin) as found:
        yield found


def sample_of(contract: EventContract) -> dict[str, Any]:
    """Return a type's sample as data ready for the codec."""
    return Validator(contract, ValidationRules()).validate(contract.sample, NOW, []).data


def avro(schema: object) -> Schema:
    """Return a schema as Confluent's client has it."""
    return Schema(json.dumps(schema), "AVRO")


@pytest.mark.parametrize("kind", sorted(CONTRACTS))
def test_they_decode_what_we_wrote(written_by_us: Pair, kind: str) -> None:
    """A stock deserializer, which knows nothing but the registry's address, reads each of our event types."""
    (theirs, ours), contract = written_by_us, CONTRACTS[kind]
    data = sample_of(contract)
    value = Codec(ours).encode(contract.subject, contract.schema, data)
    decoded = AvroDeserializer(theirs)(value, SerializationContext("events", MessageField.VALUE))
    assert decoded == Codec(ours).decode(value).data
    assert decoded is not None
    assert decoded.keys() == data.keys()


@pytest.mark.parametrize("kind", sorted(CONTRACTS))
def test_we_decode_what_they_wrote(written_by_them: Pair, kind: str) -> None:
    """A stock serializer registers the schema by itself, under the subject that we use, and we read its events."""
    (theirs, ours), contract = written_by_them, CONTRACTS[kind]
    data = sample_of(contract)
    strategy = {"subject.name.strategy": record_subject_name_strategy}
    serializer = AvroSerializer(theirs, json.dumps(contract.schema), conf=strategy)
    value = serializer(data, SerializationContext("events", MessageField.VALUE))
    decoded = Codec(ours).decode(value)
    assert decoded.record_name == contract.subject
    assert decoded.schema_id == ours.lookup(contract.subject, contract.schema)
    assert Codec(ours).encode(contract.subject, contract.schema, data) == value


def test_an_event_on_kafka_is_read_by_a_stock_consumer(
    kafka: Kafka, kafka_address: str, topics: OwnTopics, theirs: SchemaRegistryClient, ours: RegistryClient
) -> None:
    """From our producer over the broker into Confluent's consumer and deserializer."""
    spec = topics.event_spec(CONTRACT.domain)
    topics.ensure(spec)
    value = Codec(ours).encode(CONTRACT.subject, CONTRACT.schema, sample_of(CONTRACT))
    producer = kafka.producer()
    producer.send(spec.name, key=b"k", value=value).result(10)
    producer.close()
    settings = {"bootstrap.servers": kafka_address, "group.id": topics.group("stock"), "auto.offset.reset": "earliest"}
    consumer = ConfluentConsumer(settings)
    try:
        consumer.subscribe([spec.name])
        message = consumer.poll(30)
        assert message is not None
        assert message.error() is None
        context = SerializationContext(spec.name, MessageField.VALUE)
        decoded = AvroDeserializer(theirs)(message.value(), context)
    finally:
        consumer.close()
    assert decoded == Codec(ours).decode(value).data


def test_their_client_uses_every_part_of_the_api(theirs: SchemaRegistryClient) -> None:
    """Register, look up, versions, latest, compatibility, levels, modes and deletion, all through the stock client."""
    subject, one, strict = CONTRACT.subject, avro(CONTRACT.schema), avro(STRICTER)
    number = theirs.register_schema(subject, one)
    assert theirs.register_schema("other", one) == number
    found = theirs.lookup_schema(subject, one)
    assert (found.schema_id, found.version, found.subject) == (number, 1, subject)
    assert json.loads(str(theirs.get_schema(number).schema_str)) == CONTRACT.schema
    assert theirs.get_subjects() == sorted([subject, "other"])
    assert theirs.get_versions(subject) == [1]
    assert theirs.get_latest_version(subject).schema_id == theirs.get_version(subject, 1).schema_id == number
    assert {(v.subject, v.version) for v in theirs.get_schema_versions(number)} == {(subject, 1), ("other", 1)}
    assert theirs.test_compatibility(subject, one)
    assert not theirs.test_compatibility(subject, strict)
    assert theirs.set_compatibility(subject, level="NONE") == {"compatibility": "NONE"}
    assert theirs.get_compatibility(subject) == "NONE"
    theirs.set_config(config=ServerConfig(compatibility=ConfigCompatibilityLevel.FULL_TRANSITIVE))
    assert theirs.get_config().compatibility_level == "FULL_TRANSITIVE"
    assert theirs.register_schema(subject, strict) == number + 1
    assert theirs.get_global_mode() == "READWRITE"
    assert theirs.update_mode(subject, "READONLY") == theirs.get_mode(subject) == "READONLY"
    assert theirs.delete_mode(subject) == "READONLY"
    assert theirs.delete_version(subject, 2) == 2
    assert theirs.delete_subject(subject) == [1]
    assert theirs.delete_subject(subject, permanent=True) == [1, 2]
    assert theirs.get_subjects() == ["other"]


def test_their_client_gets_the_apis_error_codes(theirs: SchemaRegistryClient) -> None:
    """Incompatible, invalid and unknown are told apart by status and code."""
    theirs.register_schema("s", avro(CONTRACT.schema))
    for ask, expected in (
        (lambda: theirs.register_schema("s", avro(STRICTER)), (409, 409)),
        (lambda: theirs.register_schema("s", Schema("{}", "AVRO")), (422, 42201)),
        (lambda: theirs.register_schema("s", Schema("{}", "JSON")), (422, 42201)),
        (lambda: theirs.get_schema(9999), (404, 40403)),
        (lambda: theirs.get_latest_version("unknown"), (404, 40401)),
        (lambda: theirs.get_version("s", 7), (404, 40402)),
        (lambda: theirs.set_compatibility("s", level="SIDEWAYS"), (422, 42203)),
    ):
        with pytest.raises(SchemaRegistryError) as caught:
            ask()
        assert (caught.value.http_status_code, caught.value.error_code) == expected


def test_an_evolved_reader_of_theirs_reads_our_older_events(theirs: SchemaRegistryClient, ours: RegistryClient) -> None:
    """BACKWARD at work: a field added with a default appears in what was written before it."""
    newer = {**CONTRACT.schema, "fields": [*CONTRACT.schema["fields"], {"name": "n", "type": "int", "default": 7}]}
    value = Codec(ours).encode(CONTRACT.subject, CONTRACT.schema, sample_of(CONTRACT))
    assert ours.incompatibilities(CONTRACT.subject, newer) == []
    assert ours.register(CONTRACT.subject, newer) > ours.lookup(CONTRACT.subject, CONTRACT.schema)
    reader = AvroDeserializer(theirs, json.dumps(newer))
    decoded = reader(value, SerializationContext("events", MessageField.VALUE))
    assert decoded is not None
    assert decoded["n"] == 7
    with pytest.raises(SchemaRefused):
        ours.register(CONTRACT.subject, STRICTER)


def test_two_instances_on_one_log_agree_under_concurrent_registration(kafka: Kafka, topics: OwnTopics) -> None:
    """Both clients register the same forty schemas at two instances at once: each schema has one id, known to both."""
    schemas = [{"type": "fixed", "name": "F", "size": n} for n in range(40)]
    got: list[tuple[int, int]] = []
    with ExitStack() as stack:
        instances = [stack.enter_context(run_registry(kafka, topics)) for _ in range(2)]
        client = stack.enter_context(closing(RegistryClient(instances[0].url)))
        confluent = stack.enter_context(SchemaRegistryClient({"url": instances[1].url}))

        def register_ours() -> None:
            got.extend((n, client.register(f"s{n % 4}.{n}", schema)) for n, schema in enumerate(schemas))

        def register_theirs() -> None:
            for n, schema in reversed(list(enumerate(schemas))):
                got.append((n, confluent.register_schema(f"s{n % 4}.{n}", avro(schema))))

        threads = [threading.Thread(target=work) for work in (register_ours, register_theirs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(got) == 80
        assert len(set(got)) == 40
        assert {number for _, number in got} == set(range(1, 41))
        for instance in instances:
            for n, number in set(got):
                assert instance.call("GET", f"/schemas/ids/{number}/schema").body["size"] == n


def test_an_id_given_by_one_instance_is_known_to_the_other_at_once(kafka: Kafka, topics: OwnTopics) -> None:
    """A consumer may ask another instance than the producer did, before that one has read the entry."""
    with run_registry(kafka, topics) as one, run_registry(kafka, topics) as other:
        for n in range(1, 21):
            number = one.register("s", {"type": "fixed", "name": f"F{n}", "size": 1, "aliases": ["F1"]}).body
            if n == 1:
                one.call("PUT", "/config", {"compatibility": "NONE"})
            assert other.call("GET", f"/schemas/ids/{number['id']}/schema").body["name"] == f"F{n}"


def test_framing_is_a_zero_the_id_and_the_body(ours: RegistryClient) -> None:
    """The wire format, byte by byte."""
    value = Codec(ours).encode(CONTRACT.subject, CONTRACT.schema, sample_of(CONTRACT))
    stream = io.BytesIO(value)
    assert stream.read(1) == b"\x00"
    assert int.from_bytes(stream.read(4), "big") == ours.lookup(CONTRACT.subject, CONTRACT.schema)
