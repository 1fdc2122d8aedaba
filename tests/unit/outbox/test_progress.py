"""What a relay published last is found again, however many other transactions came since."""

from __future__ import annotations

import pytest

from producers.outbox import progress
from schemas.topics import Topics
from tests.fakes.kafka import FakeKafka


@pytest.fixture
def cluster() -> FakeKafka:
    """A cluster with the relays' topic."""
    found = FakeKafka()
    found.admin().ensure_topics([Topics().relay_spec()])
    return found


def publish(cluster: FakeKafka, name: str, *ids: str) -> None:
    """Commit a transaction of a relay."""
    producer = cluster.transactional_producer(f"relay-{name}")
    producer.begin()
    progress.write(producer, Topics(), name, ids)
    producer.commit()


def test_a_relay_that_has_published_nothing_has_nothing_to_settle(cluster: FakeKafka) -> None:
    """Neither on an empty topic nor on one that holds others' progress."""
    assert progress.last_published(cluster, Topics(), "mine") == []
    publish(cluster, "other", "x")
    assert progress.last_published(cluster, Topics(), "mine") == []


def test_the_newest_transaction_counts(cluster: FakeKafka) -> None:
    """The ones before are settled already."""
    publish(cluster, "mine", "a", "b")
    publish(cluster, "mine", "c")
    publish(cluster, "other", "x")
    assert progress.last_published(cluster, Topics(), "mine") == ["c"]


def test_it_is_found_behind_many_others(cluster: FakeKafka) -> None:
    """The search goes back further until it finds one."""
    publish(cluster, "mine", "a")
    for number in range(progress.WINDOW * 2):
        publish(cluster, "other", str(number))
    assert progress.last_published(cluster, Topics(), "mine") == ["a"]


def test_what_was_not_committed_does_not_count(cluster: FakeKafka) -> None:
    """An aborted transaction leaves the one before as the last."""
    publish(cluster, "mine", "a")
    producer = cluster.transactional_producer("relay-mine")
    producer.begin()
    progress.write(producer, Topics(), "mine", ["b"])
    producer.abort()
    assert progress.last_published(cluster, Topics(), "mine") == ["a"]
