"""Feeds that agencies read, on a Kafka in memory: what is wrong with one is wrong with that one alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from consumers.feeds.entry import Entry
from consumers.feeds.feeds import PUT_OFF_S, Feeds
from schemas.topics import Topics
from services.runtime.clock import Clock
from services.runtime.errors import KafkaUnavailableError
from services.runtime.kafka.port import Record
from services.runtime.settings import FeedsSettings
from tests.fakes.kafka import FakeKafka
from tests.fakes.virtual_time import VirtualClock

TOPICS = Topics()


def entry(record: Record) -> Entry:
    """Return an event as it is."""
    return Entry(record.offset, {}, record.value or b"", record)


@asynccontextmanager
async def reading(kafka: FakeKafka, clock: Clock) -> AsyncIterator[Feeds]:
    """Run the reader of feeds."""
    stop = threading.Event()
    feeds = Feeds(kafka, TOPICS, entry, FeedsSettings(), clock, asyncio.get_running_loop())
    thread = threading.Thread(target=feeds.reader.run, args=(stop,))
    thread.start()
    while not feeds.reader.working:
        await asyncio.sleep(0.01)
    try:
        yield feeds
    finally:
        stop.set()
        thread.join(10)
        feeds.close()


def test_a_feed_whose_topic_is_missing_fails_alone_and_opens_once_it_is_there() -> None:
    """Whoever reads it is told which feed and why; the others' events come; no restart is needed."""
    kafka, clock = FakeKafka(), VirtualClock()
    kafka.admin().ensure_topics(TOPICS.agency_specs("well"))

    async def body() -> None:
        async with reading(kafka, clock) as feeds:
            with pytest.raises(KafkaUnavailableError, match="missing"):
                await feeds.read("missing", -1, 10, 5)
            waiting = asyncio.create_task(feeds.read("well", -1, 10, 10))
            kafka.producer().send(TOPICS.feed("well"), key=b"k", value=b"one")
            assert [found.body for found in await waiting] == [b"one"]
            assert feeds.reader.working
            kafka.admin().ensure_topics(TOPICS.agency_specs("missing"))
            kafka.producer().send(TOPICS.feed("missing"), key=b"k", value=b"two")
            with pytest.raises(KafkaUnavailableError, match="missing"):
                await feeds.read("missing", -1, 10, 5)  # put off, and answered at once
            clock.seconds += PUT_OFF_S
            assert [found.body for found in await feeds.read("missing", -1, 10, 5)] == [b"two"]

    asyncio.run(body())
