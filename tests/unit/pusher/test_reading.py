"""Feeds that somebody deletes must not keep everybody else's cursors back; one made anew is another feed."""

from __future__ import annotations

from collections.abc import Mapping

from consumers.pusher.reading import MISSING_S, Reading
from schemas.topics import LEFT, Topics
from services.runtime.errors import KafkaUnavailableError
from services.runtime.kafka.port import Committed, Partition
from tests.fakes.hand_clock import HandClock
from tests.fakes.kafka import FakeKafka

TOPICS = Topics()


def test_a_deleted_feed_keeps_nobodys_cursor_from_being_committed() -> None:
    """A broker refuses a commit for a topic that is gone; once it is gone for long, one leaves it out, and is done.

    One look does not tell that it is gone: a broker's metadata may be old.
    When the feed is there again, its cursor is committed again.
    """
    kafka = FakeKafka()
    kafka.admin().ensure_topics([*TOPICS.agency_specs("a"), *TOPICS.agency_specs("gone")])
    clock = HandClock()
    reading = Reading(kafka, TOPICS, "pusher-0", clock)
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
    assert not reading.commit(cursors)
    clock.seconds += MISSING_S
    assert (reading.found_deleted(), reading.commit(cursors)) == (set(), False)
    assert (reading.found_deleted(), reading.found_deleted()) == ({gone}, set())
    assert reading.commit(cursors)
    assert committed == {kept: Committed(3)}
    kafka.admin().ensure_topics(TOPICS.agency_specs("gone"))
    reading.starts([kept, gone])
    assert reading.commit(cursors)
    assert committed == cursors
    reading.close()


def test_a_feed_that_is_away_for_a_moment_is_not_taken_for_deleted() -> None:
    """Two looks some time apart, and it is there in the second: the clock starts again."""
    kafka, clock = FakeKafka(), HandClock()
    kafka.admin().ensure_topics(TOPICS.agency_specs("a"))
    reading, feed = Reading(kafka, TOPICS, "pusher-0", clock), Partition(TOPICS.feed("a"), 0)
    reading._member.commit = refused  # type: ignore[method-assign]
    hidden = kafka.partitions.pop(feed.topic)
    assert not reading.commit({feed: Committed(1)})
    kafka.partitions[feed.topic] = hidden
    clock.seconds += MISSING_S
    assert not reading.commit({feed: Committed(1)})
    del kafka.partitions[feed.topic]
    assert not reading.commit({feed: Committed(1)})
    assert reading.found_deleted() == set()
    reading.close()


def refused(offsets: Mapping[Partition, Committed]) -> None:
    """Refuse a commit."""
    raise KafkaUnavailableError("UnknownTopicOrPartitionError")


def test_a_feed_made_anew_is_told_of_once() -> None:
    """By its id: however many events it has again."""
    kafka = FakeKafka()
    kafka.admin().ensure_topics([*TOPICS.agency_specs("a"), *TOPICS.agency_specs("b")])
    reading, feed = Reading(kafka, TOPICS, "pusher-0", HandClock()), Partition(TOPICS.feed("a"), 0)
    reading.read({feed: 0, Partition(TOPICS.feed("b"), 0): 0})
    assert reading.made_anew() == set()
    kafka.admin().delete_topics([feed.topic])
    assert reading.made_anew() == set()
    kafka.admin().ensure_topics(TOPICS.agency_specs("a"))
    assert (reading.made_anew(), reading.made_anew()) == ({feed}, set())
    reading.close()
