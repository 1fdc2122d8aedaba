"""A broker that is killed right after it has acknowledged a transaction, which it then has yet to end everywhere."""

from __future__ import annotations

from contextlib import closing

import pytest

from schemas.topics import TopicSpec
from services.runtime.kafka.port import Kafka, Partition
from tests.broker import Broker
from tests.conditions import eventually
from tests.conftest import open_folder

pytestmark = pytest.mark.servers

# So many take it some tens of milliseconds to end: the kill comes in between.
PLACES = [Partition("wide", n) for n in range(300)]
KILLS = 3


@pytest.mark.timeout(300)
def test_what_was_committed_can_be_read_though_the_broker_is_killed_at_once() -> None:
    """Acknowledged means read by everybody: a partition that it forgets to end hides all that comes after."""
    with open_folder() as folder:
        broker = Broker(folder)
        broker.start()
        try:
            kafka = broker.connect()
            with closing(kafka.admin()) as admin:
                admin.ensure_topics([TopicSpec("wide", len(PLACES))])
            for kill in range(1, KILLS + 1):
                commit_everywhere(kafka, broker)
                eventually(lambda: hidden(kafka) == 0, 45, f"all is readable after kill {kill}")
        finally:
            broker.kill()


def commit_everywhere(kafka: Kafka, broker: Broker) -> None:
    """Commit one record on each partition, and kill the broker once it has said yes; then start it again."""
    with closing(kafka.transactional_producer("killed")) as producer:
        producer.learn(["wide"])
        producer.begin()
        for place in PLACES:
            producer.send(place.topic, key=b"k", value=b"v", partition=place.partition)
        producer.commit()
        broker.kill()
        broker.start()


def hidden(kafka: Kafka) -> int:
    """Return how many partitions end in what can't be read."""
    with closing(kafka.consumer(None)) as reader, closing(kafka.admin()) as admin:
        readable = reader.end_offsets(PLACES)
        ends = admin.log_ends(PLACES)
    return sum(readable[place] < ends[place] for place in PLACES)
