"""Feeds that somebody deletes must not keep everybody else's cursors back; one made anew is another feed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from consumers.pusher.reading import COMMIT_PATIENCE_S, MISSING_S, Looked, Reading
from schemas.topics import LEFT, Topics
from services.runtime.errors import KafkaUnavailableError, UnavailableError
from services.runtime.kafka.port import Committed, Partition
from tests.fakes.hand_clock import HandClock
from tests.fakes.kafka import FakeAdmin, FakeKafka

TOPICS = Topics()
KEPT, GONE = Partition(TOPICS.feed("a"), 0), Partition(TOPICS.feed("gone"), 0)
CURSORS = {KEPT: Committed(3), GONE: Committed(1, LEFT)}
NOTHING = Looked(set(), set(), set())


class Asked(FakeKafka):
    """A Kafka that counts how often it is asked for its topics."""

    asked = 0

    def admin(self, *, timeout_s: float = 30.0) -> FakeAdmin:
        """Return one that counts."""
        return Counting(self)


class Counting(FakeAdmin):
    """Counts."""

    def list_topics(self) -> set[str]:
        """Count it."""
        assert isinstance(self._cluster, Asked)
        self._cluster.asked += 1
        return super().list_topics()


@pytest.fixture
def kafka() -> Asked:
    """Return a Kafka with two agencies' topics."""
    made = Asked()
    made.admin().ensure_topics([*TOPICS.agency_specs("a"), *TOPICS.agency_specs("gone")])
    return made


@pytest.fixture
def clock() -> HandClock:
    """Return a clock."""
    return HandClock()


@pytest.fixture
def reading(kafka: Asked, clock: HandClock) -> Iterator[Reading]:
    """Read both feeds."""
    made = Reading(kafka, TOPICS, "pusher-0", clock)
    made.starts([KEPT, GONE])
    made.read({KEPT: 0, GONE: 0})
    assert made.look() == NOTHING
    yield made
    made.close()


def committed(kafka: FakeKafka) -> dict[Partition, Committed]:
    """Return what the group has committed."""
    return kafka.groups[TOPICS.group("pusher")].committed


def commit(reading: Reading, cursors: Mapping[Partition, Committed]) -> dict[Partition, Committed]:
    """Commit, and return what needs no other commit."""
    reading.begin_commit(cursors)
    return reading.committed(wait=True)


def test_a_deleted_feed_keeps_nobodys_cursor_from_being_committed(
    kafka: Asked, clock: HandClock, reading: Reading
) -> None:
    """Nobody waits for it: not even once. Its own waits, until it is gone for long: then there is none to commit."""
    kafka.admin().delete_topics([GONE.topic])
    assert commit(reading, CURSORS) == {KEPT: Committed(3)}
    assert committed(kafka) == {KEPT: Committed(3)}
    assert commit(reading, {GONE: Committed(1)}) == {}
    assert (reading.look(), commit(reading, CURSORS)) == (NOTHING, {KEPT: Committed(3)})
    clock.seconds += MISSING_S
    assert (reading.look(), reading.look()) == (Looked(set(), {GONE}, set()), NOTHING)
    assert commit(reading, CURSORS) == CURSORS
    assert committed(kafka) == {KEPT: Committed(3)}
    kafka.admin().ensure_topics(TOPICS.agency_specs("gone"))
    assert reading.look() == Looked({GONE}, set(), {GONE})
    assert commit(reading, CURSORS) == CURSORS
    assert committed(kafka) == CURSORS


def test_an_idle_agencys_deleted_feed_is_noticed_without_any_commit(
    kafka: Asked, clock: HandClock, reading: Reading
) -> None:
    """And asks the broker for nothing while all is well, or once it is known."""
    asked = kafka.asked
    reading.look()
    assert kafka.asked == asked
    kafka.admin().delete_topics([GONE.topic])
    assert reading.look() == NOTHING
    clock.seconds += MISSING_S
    assert reading.look() == Looked(set(), {GONE}, set())
    asked = kafka.asked
    assert (reading.look(), kafka.asked) == (NOTHING, asked)


def test_a_feed_that_is_away_for_a_moment_is_not_taken_for_deleted(
    kafka: Asked, clock: HandClock, reading: Reading
) -> None:
    """Two looks some time apart, and it is there in the second: the clock starts again, and its cursor is committed."""
    hidden = kafka.partitions.pop(GONE.topic)
    assert commit(reading, {GONE: Committed(1)}) == {}
    kafka.partitions[GONE.topic] = hidden
    clock.seconds += MISSING_S
    assert reading.look() == NOTHING
    assert commit(reading, {GONE: Committed(1)}) == {GONE: Committed(1)}
    del kafka.partitions[GONE.topic]
    assert commit(reading, {GONE: Committed(2)}) == {}
    assert reading.look() == NOTHING


def test_a_feed_made_anew_is_told_of_once() -> None:
    """By its id: however many events it has again."""
    kafka = FakeKafka()
    kafka.admin().ensure_topics([*TOPICS.agency_specs("a"), *TOPICS.agency_specs("b")])
    reading, feed = Reading(kafka, TOPICS, "pusher-0", HandClock()), Partition(TOPICS.feed("a"), 0)
    reading.read({feed: 0, Partition(TOPICS.feed("b"), 0): 0})
    assert reading.look() == NOTHING
    kafka.admin().delete_topics([feed.topic])
    assert reading.look() == NOTHING
    kafka.admin().ensure_topics(TOPICS.agency_specs("a"))
    assert (reading.look(), reading.look()) == (Looked({feed}, set(), set()), NOTHING)
    reading.close()


def test_a_refusal_of_long_ago_does_not_count_against_shares_that_came_since(
    kafka: Asked, clock: HandClock, reading: Reading
) -> None:
    """For long means of these shares: a dealing without any must not make the next one an outage."""
    kafka.away = True
    assert commit(reading, CURSORS) == {}
    clock.seconds += COMMIT_PATIENCE_S + 1
    kafka.away = False
    reading.read({KEPT: 0, GONE: 0})
    kafka.away = True
    assert commit(reading, CURSORS) == {}
    clock.seconds += COMMIT_PATIENCE_S + 1
    with pytest.raises(UnavailableError):
        commit(reading, CURSORS)
    kafka.away = False


def test_where_it_can_not_be_asked_which_feed_there_is_not_the_commit_is_refused_and_no_session_ends(
    kafka: Asked, clock: HandClock, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One feed's deletion and a moment without an answer must not have everybody's window sent again."""

    def away(_: FakeAdmin) -> set[str]:
        raise KafkaUnavailableError("no answer")

    kafka.admin().delete_topics([GONE.topic])
    with monkeypatch.context() as patched:
        patched.setattr(FakeAdmin, "list_topics", away)
        assert commit(reading, CURSORS) == {}
    assert commit(reading, CURSORS) == {KEPT: Committed(3)}
