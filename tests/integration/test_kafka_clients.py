"""The clients of Kafka leave nothing behind: neither where nobody answers, nor where the broker dies under them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from schemas.topics import TopicSpec
from services.runtime.embedded.ports import free_port
from services.runtime.errors import UnavailableError
from services.runtime.kafka.client import KafkaPython
from services.runtime.kafka.port import Producer, Sent
from services.runtime.settings import KafkaSettings
from tests.broker import Broker
from tests.conditions import eventually

pytestmark = pytest.mark.servers
TOPIC = "left-behind"


def held() -> tuple[int, int]:
    """Return how many threads and open files this process has."""
    return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))


def makers(kafka: KafkaPython) -> list[Callable[[], object]]:
    """Return what makes each kind of client."""
    return [
        kafka.admin,
        kafka.producer,
        lambda: kafka.consumer("left-behind"),
        lambda: kafka.transactional_producer("left-behind"),
    ]


def test_where_nobody_answers_no_attempt_leaves_a_thread_or_a_socket() -> None:
    """An outage of a night is thousands of attempts by each process."""
    kafka = KafkaPython(KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}"))
    kafka._admin["bootstrap_timeout_ms"] = kafka._base["bootstrap_timeout_ms"] = 50
    before = held()
    for make in makers(kafka):
        for _ in range(3):
            with pytest.raises(UnavailableError):
                make()
    assert held() == before


def test_clients_whose_broker_dies_are_closed_whole_and_what_was_not_acknowledged_is_told(tmp_path: Path) -> None:
    """A record is on its way, a group is joined, a transaction is open: then the broker is killed."""
    broker = Broker(tmp_path)
    told: list[Exception | None] = []
    before = held()
    try:
        broker.start()
        kafka = broker.connect()
        admin, producer, consumer = kafka.admin(), kafka.producer(), kafka.consumer(TOPIC)
        transactional = kafka.transactional_producer(TOPIC)
        admin.ensure_topics([TopicSpec(TOPIC, 1)])
        producer.send(TOPIC, key=b"k", value=b"v").result(30)
        consumer.subscribe([TOPIC], lambda _: None, lambda _: None)
        eventually(lambda: bool(consumer.poll(0.1, 10)), 30, "the record")
        transactional.begin()
        transactional.send(TOPIC, key=b"k", value=b"v")
        broker.kill()
        producer.send(TOPIC, key=b"k", value=b"v").then(lambda _, error: told.append(error))
        for client in (producer, transactional, consumer, admin):
            with suppress(UnavailableError):
                client.close()
        eventually(lambda: held() == before, 20, "threads and files as before")
        assert [error is None for error in told] == [False]
    finally:
        broker.kill()


@pytest.mark.timeout(180)
def test_a_producer_writes_again_after_an_outage_in_which_what_it_had_sent_was_not_acknowledged(tmp_path: Path) -> None:
    """The broker hangs with a record on its way, dies, and comes back later than the record's time."""
    broker = Broker(tmp_path)
    try:
        broker.start()
        kafka = broker.connect()
        with closing(kafka.admin()) as admin:
            admin.ensure_topics([TopicSpec(TOPIC, 1)])
        with closing(kafka.producer(acknowledge_timeout_s=2.0)) as producer:
            producer.send(TOPIC, key=b"k", value=b"before").result(30)
            broker.signal(signal.SIGSTOP)
            under_way = eventually(lambda: unanswered(producer), 30, "a record is on its way")
            broker.kill()
            with pytest.raises(UnavailableError):
                under_way.result(30)
            broker.start()
            assert eventually(lambda: written(producer, b"after"), 30, "a record is written")
    finally:
        broker.kill()


def unanswered(producer: Producer) -> Sent | None:
    """Send a record, and return it where no answer comes: a broker that is stopped may take one or two more."""
    sent = producer.send(TOPIC, key=b"k", value=b"under way")
    try:
        sent.result(0.5)
    except UnavailableError:
        return sent
    return None


def written(producer: Producer, value: bytes) -> bool:
    """Tell whether a record was acknowledged."""
    try:
        producer.send(TOPIC, key=b"k", value=value).result(5)
    except UnavailableError:
        return False
    return True
