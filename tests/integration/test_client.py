"""The Python client: many threads, a bounded buffer, what it counts, and what a block leaves behind."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from kafka import KafkaProducer
from kafka.errors import MessageSizeTooLargeError
from prometheus_client import CollectorRegistry

from producers.client import Publisher, UndeliveredError
from producers.publishing import Prepared
from schemas.contracts import load_contracts
from schemas.topics import EVENT_MAX_BYTES, Topics
from services.runtime.errors import BufferFullError, InvalidError, RecordTooLargeError, TooLargeError
from services.runtime.kafka.port import Kafka
from services.runtime.settings import KafkaSettings, Settings
from tests.broker import Broker
from tests.conftest import OwnTopics
from tests.events import ACCEPTED, SOURCE, attribute, read_all

pytestmark = pytest.mark.servers

FREE_TEXT = "department_name"
SAMPLE = load_contracts().types[ACCEPTED].sample


def test_threads_share_one_publisher(kafka: Kafka, own: OwnTopics, installation: Settings) -> None:
    """Eight threads publish 200 events each; all are there, each key's in its thread's order, and all are counted."""
    metrics = CollectorRegistry()

    def work(thread: int) -> None:
        for number in range(200):
            publisher.publish(ACCEPTED, {**SAMPLE, "project_no": f"SYN-{thread}"}, id=f"{thread}-{number}")

    with (
        Publisher(installation, SOURCE, max_buffered=50, metrics=metrics) as publisher,
        ThreadPoolExecutor(8) as pool,
    ):
        list(pool.map(work, range(8)))
    found = [attribute(record, "ce_id") for record in read_all(kafka, own.events("window"), 12)]
    assert len(found) == 1600
    for thread in range(8):
        mine = [one for one in found if one.startswith(f"{thread}-")]
        assert mine == [f"{thread}-{number}" for number in range(200)]
    assert metrics.get_sample_value("hongyan_client_events_total", {"outcome": "published"}) == 1600
    assert metrics.get_sample_value("hongyan_client_buffered_events") == 0


def test_an_invalid_event_takes_no_room(installation: Settings) -> None:
    """What is refused is refused at once, with its fields, and the buffer of one is free for the next."""
    with Publisher(installation, SOURCE, max_buffered=1) as publisher:
        for _ in range(3):
            with pytest.raises(InvalidError, match="/data/division"):
                publisher.publish(ACCEPTED, {**SAMPLE, "division": "990000"})
        publisher.publish(ACCEPTED, SAMPLE, id="good").result(15)


def test_an_event_that_is_too_large_is_refused_by_name(kafka: Kafka, own: OwnTopics, installation: Settings) -> None:
    """The largest that fits is taken; a larger one names its field; what only Kafka finds too large is no outage."""
    with Publisher(installation, SOURCE) as publisher:
        publisher.publish(ACCEPTED, {**SAMPLE, FREE_TEXT: "x" * 1_300_000}, id="fits").result(15)
        with pytest.raises(TooLargeError, match=f"/data/{FREE_TEXT}: .*{EVENT_MAX_BYTES}"):
            publisher.publish(ACCEPTED, {**SAMPLE, FREE_TEXT: "x" * EVENT_MAX_BYTES}, id="too large")
        foreign = replace(publisher.prepare(ACCEPTED, SAMPLE, id="foreign"), value=b"x" * EVENT_MAX_BYTES)
        with pytest.raises(RecordTooLargeError, match="MessageSizeTooLarge"):
            publisher.send(foreign).result(15)
    assert [attribute(record, "ce_id") for record in read_all(kafka, own.events("window"), 12)] == ["fits"]


def test_a_block_that_ends_well_has_delivered_everything(installation: Settings) -> None:
    """A failure that nobody asked for is raised at its end; one that was asked for was told already."""

    def foreign(publisher: Publisher) -> Prepared:
        return replace(publisher.prepare(ACCEPTED, SAMPLE, id="foreign"), value=b"x" * EVENT_MAX_BYTES)

    told = pytest.raises(UndeliveredError, match=r"1 个事件.*MessageSizeTooLarge")
    with told, Publisher(installation, SOURCE) as one:
        one.publish(ACCEPTED, SAMPLE, id="good")
        one.send(foreign(one))
    with Publisher(installation, SOURCE) as other:
        sent = other.send(foreign(other))
        other.flush()
        with pytest.raises(RecordTooLargeError):
            sent.result(15)
        other.send(foreign(other)).then(lambda _placed, _error: None)


def test_a_producer_that_compresses_is_held_to_the_same_size(kafka_address: str, kafka: Kafka, own: OwnTopics) -> None:
    """A record that is small only while packed would stop everybody behind it: the broker measures it unpacked."""
    producer = KafkaProducer(
        bootstrap_servers=kafka_address,
        compression_type="gzip",
        max_request_size=8_000_000,
        enable_idempotence=False,
    )
    with pytest.raises(MessageSizeTooLargeError):
        producer.send(own.events("window"), b"x" * 4_000_000).get(15)
    producer.send(own.events("window"), b"x" * 1_000_000).get(15)
    producer.close()
    assert len(read_all(kafka, own.events("window"), 12)) == 1


def test_a_kafka_that_hangs_costs_time_and_no_memory(installation: Settings, tmp_path: Path) -> None:
    """With the broker stopped, the buffer fills and the next event is refused in time; afterwards all go through."""
    broker = Broker(tmp_path)
    own = installation.model_copy(deep=True)
    own.kafka = KafkaSettings(bootstrap_servers=broker.kafka.address)
    metrics = CollectorRegistry()
    try:
        broker.start()
        with closing(broker.connect().admin()) as admin:
            admin.ensure_topics([Topics().event_spec("window")])
        with Publisher(own, SOURCE, max_buffered=20, max_block_s=0.5, metrics=metrics) as publisher:
            publisher.publish(ACCEPTED, SAMPLE, id="before").result(15)
            broker.signal(signal.SIGSTOP)
            for number in range(20):
                publisher.publish(ACCEPTED, SAMPLE, id=f"waiting-{number}")
            with pytest.raises(BufferFullError, match="20 个事件"):
                publisher.publish(ACCEPTED, SAMPLE, id="one too many")
            assert metrics.get_sample_value("hongyan_client_buffered_events") == 20
            broker.signal(signal.SIGCONT)
        assert metrics.get_sample_value("hongyan_client_events_total", {"outcome": "published"}) == 21
    finally:
        broker.kill()
