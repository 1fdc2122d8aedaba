"""The readers of older events: whoever's broker is away, and whatever its clients do, the others read on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Iterator

import pytest

from consumers.feeds.entry import Entry
from consumers.feeds.history import SLOW_S, Bounds, History
from schemas.topics import Topics
from services.runtime.kafka.port import Partition
from tests.conditions import eventually
from tests.fakes.kafka import FakeConsumer, FakeKafka

TOPICS = Topics()
READERS = 4
LIMIT_S = 10.0


class Holding(FakeKafka):
    """A cluster in which the leaders of some agencies' feeds do not answer until they are let."""

    def __init__(self) -> None:
        super().__init__()
        self.silent = set[str]()
        self.back, self.asked = threading.Event(), list[str]()

    def consumer(
        self,
        group: str | None,
        *,
        client_id: str = "hongyan",
        instance: str | None = None,
        from_end: bool = False,
        bulk: bool = False,
        exact: bool = False,
    ) -> FakeConsumer:
        """Make a consumer that waits for those leaders."""
        cluster = self

        class Waiting(FakeConsumer):
            def beginning_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
                for partition in partitions:
                    if TOPICS.agency_of(partition.topic) in cluster.silent:
                        cluster.asked.append(partition.topic)
                        cluster.back.wait(2 * LIMIT_S)
                return super().beginning_offsets(partitions)

        return Waiting(self, group, 0, instance, from_end=from_end, exact=exact)


@pytest.fixture
def kafka() -> Iterator[Holding]:
    """Return a cluster with a few feeds, all of whose leaders answer."""
    found = Holding()
    for agency in ("a", "b", "c", "well"):
        found.admin().ensure_topics(TOPICS.agency_specs(agency))
    yield found
    found.back.set()


def history_of(kafka: Holding, slow_s: float) -> History:
    """Return the readers."""
    return History(kafka, TOPICS, lambda record: Entry(record.offset, {}, b"", record), READERS, slow_s=slow_s)


async def asked(kafka: Holding, times: int) -> None:
    """Wait until leaders that are away have been asked so often."""
    await asyncio.to_thread(lambda: eventually(lambda: len(kafka.asked) == times, LIMIT_S, "they are asked"))


async def turned() -> None:
    """Let all that may go on in the event loop now go on."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_who_hangs_up_leaves_no_reader_at_work_uncounted(kafka: Holding) -> None:
    """Its broker is away and its clients come again and again: it holds its share of the readers, and no more."""
    history = history_of(kafka, SLOW_S)

    async def body() -> None:
        kafka.silent.add("a")
        reads = [asyncio.create_task(history.bounds("a")) for _ in range(READERS)]
        await asked(kafka, READERS // 2)
        for read in reads[: READERS // 2]:
            read.cancel()
        await turned()
        assert await asyncio.wait_for(history.bounds("well"), LIMIT_S) == Bounds(0, 0)
        assert len(kafka.asked) == READERS // 2
        kafka.back.set()
        assert await asyncio.wait_for(asyncio.gather(*reads[READERS // 2 :]), LIMIT_S) == [Bounds(0, 0)] * 2

    asyncio.run(body())
    history.close()


def test_who_hangs_up_before_its_turn_or_before_a_reader_is_free_is_not_read_for(kafka: Holding) -> None:
    """And what it waited with is there for the next."""
    history = history_of(kafka, SLOW_S)

    async def body() -> None:
        kafka.silent |= {"a", "b", "c"}
        held = [asyncio.create_task(history.bounds(agency)) for agency in "aabb"]
        await asked(kafka, READERS)
        given_up = [asyncio.create_task(history.bounds(agency)) for agency in "aaccc"]
        await turned()
        for read in given_up:
            read.cancel()
        await turned()
        kafka.back.set()
        await asyncio.wait_for(asyncio.gather(*held), LIMIT_S)
        assert kafka.asked.count(TOPICS.feed("c")) == 0
        for _ in range(READERS):
            assert await asyncio.wait_for(history.bounds("c"), LIMIT_S) == Bounds(0, 0)

    asyncio.run(body())
    history.close()


def test_those_who_were_slow_leave_half_of_the_readers_to_the_others(kafka: Holding) -> None:
    """However many they are: those wait for each other."""
    history = history_of(kafka, 0.0)

    async def body() -> None:
        for agency in "abc":
            await history.bounds(agency)
        kafka.silent |= {"a", "b", "c"}
        reads = [asyncio.create_task(history.bounds(agency)) for agency in "aabbcc"]
        await asked(kafka, READERS // 2)
        await turned()
        assert await asyncio.wait_for(history.bounds("well"), LIMIT_S) == Bounds(0, 0)
        assert len(kafka.asked) == READERS // 2
        kafka.back.set()
        await asyncio.wait_for(asyncio.gather(*reads), LIMIT_S)

    asyncio.run(body())
    history.close()
