"""Committing cursors: a feed that somebody has deleted must not keep everybody else's back."""

from __future__ import annotations

from collections.abc import Mapping

from consumers.pusher.reading import Reading
from schemas.topics import LEFT, Topics
from services.runtime.errors import KafkaUnavailableError
from services.runtime.kafka.port import Committed, Partition
from tests.fakes.hand_clock import HandClock
from tests.fakes.kafka import FakeKafka

TOPICS = Topics()


def test_a_deleted_feed_keeps_nobodys_cursor_from_being_committed() -> None:
    """A broker refuses a commit for a topic that is gone; the next one leaves it out, and it counts as done.

    When the feed is there again, its cursor is committed again.
    """
    kafka = FakeKafka()
    kafka.admin().ensure_topics([*TOPICS.agency_specs("a"), *TOPICS.agency_specs("gone")])
    reading = Reading(kafka, TOPICS, "pusher-0", HandClock())
    kept, gone = Partition(TOPICS.feed("a"), 0), Partition(TOPICS.feed("gone"), 0)
    cursors = {kept: Committed(3), gone: Committed(1, LEFT)}
    commit, committed = reading._member.commit, dict[Partition, Committed]()

    def refusing(offsets: Mapping[Partition, Committed]) -> None:
        if any(partition.topic not in kafka.partitions for partition in offsets):
            raise KafkaUnavailableError("UnknownTopicOrPartitionError")
        commit(offsets)
        committed.update(offsets)

    reading._member.commit = refusing  # type: ignore[method-assign]
    kafka.admin().delete_topics([gone.topic])
    assert not reading.commit(cursors)
    assert reading.commit(cursors)
    assert committed == {kept: Committed(3)}
    kafka.admin().ensure_topics(TOPICS.agency_specs("gone"))
    reading.starts([kept, gone])
    assert reading.commit(cursors)
    assert committed == cursors
    reading.close()
