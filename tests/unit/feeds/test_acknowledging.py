"""Receipts whose cursor can't be moved any more once they are on the log."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from consumers.feeds.acknowledging import Acknowledging, Taken
from consumers.feeds.asking import Asking
from consumers.feeds.entry import Entry
from consumers.feeds.feeds import Feeds
from consumers.feeds.footing import Footing
from consumers.feeds.showing import Showing
from consumers.feeds.superseding import Superseding
from consumers.feeds.withholding import Withholding
from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.delivery.acknowledgement import Acknowledgement, One
from services.delivery.cursors import Cursors
from services.runtime.clock import SystemClock
from services.runtime.errors import UnavailableError
from services.runtime.kafka.port import Consumer, Partition, Record
from services.runtime.settings import FeedsSettings
from services.subscriptions.control import ControlView
from services.subscriptions.stopping import Stops
from tests.fakes.kafka import FakeKafka

TOPICS = Topics("t.")


class Joining(Asking):
    """A client of the agency's joins its group right after it was looked whether there is one."""

    def __init__(self, kafka: FakeKafka) -> None:
        super().__init__(Cursors(kafka, TOPICS))
        self.client: Consumer = kafka.consumer(TOPICS.agency_group("a"))
        self.joins = True

    async def check_free(self, agency: str) -> None:
        """Look, and join."""
        await super().check_free(agency)
        if self.joins:
            self.client.subscribe([TOPICS.feed("a")], lambda _: None, lambda _: None)
            self.client.poll(0, 1)


def recorded(kafka: FakeKafka) -> list[int]:
    """Return the cursors of the receipts on the log."""
    logs = [log for partition, log in kafka.logs.items() if partition.topic == TOPICS.receipts]
    return [orjson.loads(record.value or b"")["cursor"] for log in logs for record in log]


def test_receipts_that_are_recorded_are_not_told_to_be_refused_where_a_client_joins_meanwhile() -> None:
    """It is told that they are, and that the same is to be sent again; that moves the cursor and records nothing."""
    kafka, clock = FakeKafka(), SystemClock()
    kafka.admin().ensure_topics([*TOPICS.agency_specs("a"), *TOPICS.base_specs([])])
    for _ in range(2):
        kafka.producer().send(TOPICS.feed("a"), key=b"k", value=b"v", partition=0).result(1)
    asking = Joining(kafka)
    loop = asyncio.new_event_loop()
    feeds = Feeds(
        kafka, TOPICS, lambda record: Entry(record.offset, {"id": "e"}, b"", record), FeedsSettings(), clock, loop
    )
    history, footing = feeds.history, Footing(kafka, TOPICS, feeds, asking, clock)
    withholding = Withholding(kafka, TOPICS, clock)
    showing = Showing(Stops(ControlView()), Superseding(history, load_contracts()), withholding, asking, clock)
    acknowledging = Acknowledging(kafka, TOPICS, history, asking, footing, showing, 10, clock)

    async def said() -> None:
        body = Acknowledgement(up_to=1)
        with pytest.raises(UnavailableError, match="回执已记录，游标未移动"):
            await acknowledging.take("a", "pull", body, b"", None)
        assert recorded(kafka) == [0, 1]
        asking.client.close()
        asking.joins = False
        assert await acknowledging.take("a", "pull", body, b"", None) == Taken(2, 0, 2)
        assert recorded(kafka) == [0, 1]

    loop.run_until_complete(said())
    loop.close()
    acknowledging.close()
    withholding.close()
    feeds.close()
    asking.close()


def test_another_event_at_the_cursor_of_an_old_one_gets_its_own_receipt() -> None:
    """In a feed that was made anew; the same said again of the same event changes nothing."""
    kafka, clock, loop = FakeKafka(), SystemClock(), asyncio.new_event_loop()
    kafka.admin().ensure_topics([*TOPICS.agency_specs("a"), *TOPICS.base_specs([])])
    asking = Asking(Cursors(kafka, TOPICS))
    feeds = Feeds(kafka, TOPICS, by_value, FeedsSettings(), clock, loop)
    withholding = Withholding(kafka, TOPICS, clock)
    showing = Showing(Stops(ControlView()), Superseding(feeds.history, load_contracts()), withholding, asking, clock)
    footing = Footing(kafka, TOPICS, feeds, asking, clock)
    acknowledging = Acknowledging(kafka, TOPICS, feeds.history, asking, footing, showing, 10, clock)
    said = Acknowledgement(receipts=[One(cursor=0)])

    async def taken() -> list[int]:
        return [(await acknowledging.take("a", "webhook", said, b"", None)).recorded for _ in range(2)]

    for value in (b"old", b"new"):
        kafka.logs[Partition(TOPICS.feed("a"), 0)].clear()
        kafka.producer().send(TOPICS.feed("a"), key=b"k", value=value, partition=0).result(1)
        assert loop.run_until_complete(taken()) == [1, 0]
    loop.close()
    acknowledging.close()
    withholding.close()
    feeds.close()
    asking.close()


def by_value(record: Record) -> Entry:
    """Return an event whose id is its value."""
    return Entry(record.offset, {"id": (record.value or b"").decode()}, b"", record)
