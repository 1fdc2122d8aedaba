"""The pusher's dealing with its group, on a Kafka in memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
from prometheus_client import CollectorRegistry

from consumers.pusher.engine import RENEW_S, Pusher
from consumers.pusher.metrics import PusherMetrics
from consumers.pusher.office import PushOffice
from consumers.pusher.outbox import Outbox
from consumers.pusher.receivers import Receivers
from schemas.codec import Codec
from schemas.topics import LEFT, Topics
from services.delivery.profile import Profile
from services.delivery.receiver import Receiver
from services.delivery.retry import RetryPolicy
from services.delivery.sender import Sender
from services.runtime.kafka.port import Committed, Partition
from tests.conditions import eventually
from tests.fakes.kafka import FakeAdmin, FakeKafka
from tests.fakes.virtual_time import VirtualClock

TOPICS = Topics()
PROFILE = Profile(64, 16, 1.0, 0.5, RetryPolicy(1.0, 60.0), 3, 1e9)
ONE = Partition(TOPICS.feed("one"), 0)


@dataclass
class Known(Receivers):
    """Agencies that a test sets."""

    names: list[str] = field(default_factory=lambda: ["one", "two"])
    changes: int = 0
    moved: bool = False

    def version(self) -> int:
        """Return the configuration's version."""
        return self.changes

    def agencies(self) -> Collection[str]:
        """Return the agencies that take webhooks."""
        return self.names

    def may_have_moved(self, agency: str) -> bool:
        """Tell what a test says."""
        return self.moved

    def get(self, agency: str) -> Receiver:
        """Return a receiver that nothing is sent to."""
        return Receiver(agency, "http://127.0.0.1:9/", (), PROFILE)


@dataclass
class Rig:
    """A pusher at work."""

    kafka: FakeKafka
    clock: VirtualClock
    receivers: Known

    def cursors(self) -> dict[Partition, object]:
        """Return what the group has committed."""
        return dict(self.kafka.groups[TOPICS.group("pusher")].committed)


class Counting(FakeAdmin):
    """An admin client that notes which groups it was asked for."""

    asked: ClassVar[list[str]] = []

    def group_offsets(self, group: str, partitions: Collection[Partition] | None = None) -> dict[Partition, Committed]:
        """Note it."""
        self.asked.append(group)
        return super().group_offsets(group, partitions)


class CountingKafka(FakeKafka):
    """A Kafka whose admin clients note what they are asked."""

    def admin(self) -> FakeAdmin:
        """Return one."""
        return Counting(self)


class NoSender(Sender):
    """Sends nothing."""

    def __init__(self) -> None:
        """Open no connections."""


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Run a pusher of two agencies without events."""
    kafka, clock, receivers = CountingKafka(), VirtualClock(), Known()
    kafka.admin().ensure_topics(spec for agency in receivers.names for spec in TOPICS.agency_specs(agency))
    loop, stop = asyncio.new_event_loop(), threading.Event()
    metrics = PusherMetrics(CollectorRegistry())
    outbox = Outbox(loop.call_soon_threadsafe)
    office = PushOffice(Codec.__new__(Codec), NoSender(), outbox, TOPICS, clock, metrics)
    pusher = Pusher(kafka, TOPICS, receivers, office, outbox, clock, metrics, loop, "pusher-0")
    threads = [threading.Thread(target=loop.run_forever), threading.Thread(target=pusher.run, args=(stop,))]
    for thread in threads:
        thread.start()
    yield Rig(kafka, clock, receivers)
    stop.set()
    threads[1].join(10)
    loop.call_soon_threadsafe(loop.stop)
    threads[0].join(10)
    loop.close()


def committed(rig: Rig) -> Callable[[], bool]:
    """Return a condition: both cursors are committed."""
    return lambda: TOPICS.group("pusher") in rig.kafka.groups and len(rig.cursors()) == 2


def test_cursors_are_committed_at_once_and_renewed_before_kafka_forgets_them(rig: Rig) -> None:
    """A feed without events for weeks keeps its cursor."""
    eventually(committed(rig))
    rig.kafka.groups[TOPICS.group("pusher")].committed.clear()
    rig.clock.seconds += RENEW_S + 1
    eventually(committed(rig))


def test_a_feed_that_another_channel_takes_is_given_up_with_a_note(rig: Rig) -> None:
    """Whoever reads the feed next knows from the cursor's note that nothing is under way."""
    eventually(committed(rig))
    rig.receivers.names.remove("one")
    rig.receivers.changes += 1
    eventually(lambda: rig.kafka.groups[TOPICS.group("pusher")].committed[ONE].note == LEFT)
    rig.receivers.names.append("one")
    rig.receivers.changes += 1
    eventually(lambda: rig.kafka.groups[TOPICS.group("pusher")].committed[ONE].note == "")


def test_a_new_agency_asks_for_its_own_cursor_alone_and_begins_where_another_channel_ended(rig: Rig) -> None:
    """Hundreds of agencies that once had another channel hold nobody up when one more comes."""
    eventually(committed(rig))
    rig.receivers.moved = True
    three, group = Partition(TOPICS.feed("three"), 0), TOPICS.agency_group("three")
    rig.kafka.admin().ensure_topics(TOPICS.agency_specs("three"))
    for _ in range(9):
        rig.kafka.producer().send(three.topic, key=b"k", value=b"v")
    rig.kafka.admin().set_group_offsets(group, {three: Committed(9)})
    Counting.asked.clear()
    rig.receivers.names.append("three")
    rig.receivers.changes += 1
    eventually(lambda: rig.cursors().get(three) == Committed(9, ""))
    assert Counting.asked == [group]
