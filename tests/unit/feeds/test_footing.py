"""Where an agency that pulls stands, when its feed's log is not the one that it has read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from consumers.feeds.acknowledging import Acknowledging
from consumers.feeds.asking import Asking
from consumers.feeds.feeds import Feeds
from consumers.feeds.footing import Footing
from consumers.feeds.showing import Showing
from consumers.feeds.superseding import Superseding
from consumers.feeds.withholding import Withholding
from consumers.pusher.deciding import Feeds as Decisions
from consumers.pusher.placing import is_astray
from schemas.contracts import load_contracts
from schemas.topics import LEFT, Topics
from services.delivery.acknowledgement import Acknowledgement
from services.delivery.cursors import Cursors
from services.runtime.alerts import Alert, AlertKind
from services.runtime.errors import ConflictError
from services.runtime.kafka.port import Committed, Partition
from services.subscriptions.control import ControlView
from services.subscriptions.stopping import Stops
from tests.fakes.kafka import FakeKafka
from tests.fakes.virtual_time import VirtualClock
from tests.unit.feeds.test_feeds import reading

TOPICS = Topics()
FEED, GROUP = Partition(TOPICS.feed("a"), 0), TOPICS.agency_group("a")


@dataclass
class Rig:
    """A Kafka in memory with one agency's feed, and whoever asks where the agency stands."""

    kafka: FakeKafka
    clock: VirtualClock
    asking: Asking

    def footing(self, feeds: Feeds) -> Footing:
        """Return one, as a process has that was just started."""
        return Footing(self.kafka, TOPICS, feeds, self.asking, self.clock)

    def put(self, number: int) -> None:
        """Put so many events on the feed."""
        for _ in range(number):
            self.kafka.producer().send(FEED.topic, key=b"k", value=b"v", partition=0).result(1)

    def own(self) -> Committed:
        """Return the agency's own cursor."""
        return self.kafka.admin().group_offsets(GROUP)[FEED]

    def told(self) -> list[str]:
        """Return the states of the alerts of gaps."""
        found = [Alert.from_bytes(record.value) for record in self.kafka.logs[Partition(TOPICS.alerts, 0)]]
        return [one.state for one in found if (one.kind, one.subject) == (AlertKind.FEED_GAP, "a")]


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Return an agency that has read five events of its feed; the pusher has let go of it."""
    kafka = FakeKafka()
    kafka.admin().ensure_topics([*TOPICS.agency_specs("a"), *TOPICS.base_specs([]), TOPICS.alerts_spec()])
    kafka.admin().set_group_offsets(TOPICS.group("pusher"), {FEED: Committed(1, LEFT)})
    kafka.admin().set_group_offsets(GROUP, {FEED: Committed(5)})
    found = Rig(kafka, VirtualClock(), Asking(Cursors(kafka, TOPICS)))
    found.put(5)
    yield found
    found.asking.close()


def test_a_cursor_beyond_its_feed_is_refused_until_somebody_decides_however_long_the_feed_is_by_then(rig: Rig) -> None:
    """Nothing of the new log is passed over; receipts are refused too; one alert stands meanwhile, over restarts."""
    del rig.kafka.logs[FEED][2:]

    async def body() -> None:
        async with reading(rig.kafka, rig.clock) as feeds:
            footing = rig.footing(feeds)
            for _ in range(2):
                with pytest.raises(ConflictError, match=r"游标 5 不在队列日志之内（现有 0 至 2）.*after=-1"):
                    await footing.at("a")
            assert (rig.told(), is_astray(rig.own())) == (["open"], True)
            rig.put(9)
            footing = rig.footing(feeds)
            superseding = Superseding(feeds.history, load_contracts())
            withholding = Withholding(rig.kafka, TOPICS, rig.clock)
            showing = Showing(Stops(ControlView()), superseding, withholding, rig.asking, rig.clock)
            taking = Acknowledging(rig.kafka, TOPICS, feeds.history, rig.asking, footing, showing, 10, rig.clock)
            with pytest.raises(ConflictError, match="游标 5 "):
                await taking.take("a", "pull", Acknowledgement(up_to=7), b"", None)
            assert Decisions(rig.kafka, TOPICS, rig.clock).go_on("a", "first") == 0
            footing = rig.footing(feeds)
            assert [await footing.at("a") for _ in range(2)] == [0, 0]
            assert (rig.told()[-1], rig.told().count("closed")) == ("closed", 1)
            await rig.asking.move("a", 3)
            assert await rig.footing(feeds).at("a") == 3
            assert rig.told().count("closed") == 1
            taking.close()
            withholding.close()

    asyncio.run(body())


def test_a_feed_that_is_made_anew_while_it_is_read_is_opened_anew(rig: Rig) -> None:
    """What is kept in memory is of the old one: its readers would wait for as much to come again."""

    async def body() -> None:
        async with reading(rig.kafka, rig.clock) as feeds:
            coming = asyncio.create_task(feeds.read("a", 4, 10, 10))
            await passed(rig.clock, lambda: feeds.held()[0] == 1)
            rig.put(1)
            assert [found.cursor for found in await coming] == [5]
            rig.kafka.admin().delete_topics([FEED.topic])
            rig.kafka.admin().ensure_topics(TOPICS.agency_specs("a"))
            rig.put(2)
            await passed(rig.clock, lambda: feeds.held()[0] == 0)
            assert await rig.footing(feeds).at("a") == 0
            assert [found.cursor for found in await feeds.read("a", -1, 10, 0)] == [0, 1]
            waiting = asyncio.create_task(feeds.read("a", 1, 10, 10))
            await asyncio.sleep(0)
            rig.put(1)
            assert [found.cursor for found in await waiting] == [2]

    asyncio.run(body())


async def passed(clock: VirtualClock, condition: Callable[[], object]) -> None:
    """Let time pass until it is true."""
    async with asyncio.timeout(10):
        while not condition():
            clock.seconds += 0.5
            await asyncio.sleep(0.02)
