"""Where an agency's own group begins when its feed is no longer pushed."""

from __future__ import annotations

import orjson
import pytest

from consumers.feeds.handover import Handover, renew
from schemas.topics import LEFT, Topics
from services.delivery.cursors import Cursors, HandoverError
from services.runtime.kafka.port import Committed, Consumer, Partition
from services.subscriptions.control import ControlView
from tests.fakes.kafka import FakeKafka

TOPICS = Topics("t.")
FEED = Partition(TOPICS.feed("a"), 0)
GROUP = TOPICS.agency_group("a")


@pytest.fixture
def kafka() -> FakeKafka:
    """Return a cluster where the pusher has reached cursor 7 of the feed."""
    found = FakeKafka()
    found.admin().ensure_topics([*TOPICS.agency_specs("a"), TOPICS.shares_spec()])
    found.admin().set_group_offsets(TOPICS.group("pusher"), {FEED: Committed(7)})
    return found


def pushing(kafka: FakeKafka) -> Consumer:
    """Join the pusher's group."""
    member = kafka.consumer(TOPICS.group("pusher"))
    member.subscribe([TOPICS.control_shares], lambda _: None, lambda _: None)
    member.poll(0, 1)
    return member


def view(channel: str = "kafka", version: int = 1) -> ControlView:
    """Return a configuration in which the agency has this channel."""
    found = ControlView()
    found.apply("access/a", orjson.dumps({"agency": "a", "channel": channel, "keys": [], "version": version}))
    return found


def test_the_group_begins_where_the_pusher_let_go(kafka: FakeKafka) -> None:
    """Not before: while the pusher holds the feed, it may have events under way."""
    member = pushing(kafka)
    handover = Handover(view(), Cursors(kafka, TOPICS))
    handover.settle()
    assert kafka.admin().group_offsets(GROUP) == {}
    member.commit({FEED: Committed(9, LEFT)})
    handover.settle()
    assert kafka.admin().group_offsets(GROUP) == {FEED: Committed(9)}


def test_a_group_that_is_further_on_stays_there(kafka: FakeKafka) -> None:
    """Cursors only rise."""
    kafka.admin().set_group_offsets(GROUP, {FEED: Committed(12)})
    Handover(view(), Cursors(kafka, TOPICS)).settle()
    assert kafka.admin().group_offsets(GROUP) == {FEED: Committed(12)}


def test_an_agency_of_another_channel_is_left_alone(kafka: FakeKafka) -> None:
    """A puller's cursor moves by its receipts."""
    Handover(view("pull"), Cursors(kafka, TOPICS)).settle()
    assert kafka.admin().group_offsets(GROUP) == {}


def test_while_a_pusher_holds_the_feed_the_others_are_told_to_wait(kafka: FakeKafka) -> None:
    """A pusher that is gone altogether holds nothing."""
    cursors = Cursors(kafka, TOPICS)
    member = pushing(kafka)
    with pytest.raises(HandoverError):
        cursors.handed_over("a")
    member.close()
    assert cursors.handed_over("a") == cursors.get("a") == 7


@pytest.mark.parametrize("channel", ["pull", "kafka", "table"])
def test_a_cursor_that_nobody_moves_is_committed_again(kafka: FakeKafka, channel: str) -> None:
    """Kafka forgets those of a group without members after a week; the greatest that any channel reached is kept."""
    cursors = Cursors(kafka, TOPICS)
    renew(cursors, view(channel))
    assert kafka.admin().group_offsets(GROUP) == {FEED: Committed(7)}
    cursors.move("a", 9)
    cursors.move("a", 8)  # another process was further on
    del kafka.groups[TOPICS.group("pusher")]
    renew(cursors, view(channel))
    assert kafka.admin().group_offsets(GROUP) == {FEED: Committed(9)}


def test_the_cursor_of_a_webhook_is_the_pushers(kafka: FakeKafka) -> None:
    """Renewed there; and an agency's own client that is connected commits for itself."""
    renew(Cursors(kafka, TOPICS), view("webhook"))
    assert kafka.admin().group_offsets(GROUP) == {}
    client = kafka.consumer(GROUP)
    client.subscribe([TOPICS.feed("a")], lambda _: None, lambda _: None)
    client.poll(0, 1)
    renew(Cursors(kafka, TOPICS), view("kafka"))
    assert kafka.admin().group_offsets(GROUP) == {}
