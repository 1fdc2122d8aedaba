"""Receipts whose cursor can't be moved any more once they are on the log."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

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
from schemas.receipts import Outcome
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


@dataclass
class Desk:
    """Where an agency's receipts are taken, by as many processes as are asked for."""

    kafka: FakeKafka
    loop: asyncio.AbstractEventLoop
    takers: list[Acknowledging]

    def say(self, outcome: Outcome, reason: str | None = None, *, by: int = 0) -> tuple[int, int]:
        """Say this of the event at cursor 0; return how many were recorded and repeated."""
        said = Acknowledgement(receipts=[One(cursor=0, outcome=outcome, reason=reason)])
        taken = self.loop.run_until_complete(self.takers[by].take("a", "webhook", said, b"", None))
        return taken.recorded, taken.repeated

    def words(self) -> list[tuple[str, str | None]]:
        """Return what the agency has said, as it stands on the log."""
        logs = [log for partition, log in self.kafka.logs.items() if partition.topic == TOPICS.receipts]
        found = [orjson.loads(record.value or b"") for log in logs for record in log]
        return [(one["outcome"], one["reason"]) for one in found]

    def put(self, value: bytes) -> None:
        """Let this stand in the feed, alone."""
        self.kafka.logs[Partition(TOPICS.feed("a"), 0)].clear()
        self.kafka.producer().send(TOPICS.feed("a"), key=b"k", value=value, partition=0).result(1)


@pytest.fixture
def desk() -> Iterator[Desk]:
    """Return one of two processes, with an event in the feed."""
    kafka, clock, loop = FakeKafka(), SystemClock(), asyncio.new_event_loop()
    kafka.admin().ensure_topics([*TOPICS.agency_specs("a"), *TOPICS.base_specs([])])
    with ExitStack() as opened:
        opened.callback(loop.close)
        takers = []
        for _ in range(2):
            asking = opened.enter_context(closing(Asking(Cursors(kafka, TOPICS))))
            feeds = opened.enter_context(closing(Feeds(kafka, TOPICS, by_value, FeedsSettings(), clock, loop)))
            withholding = opened.enter_context(closing(Withholding(kafka, TOPICS, clock)))
            superseding = Superseding(feeds.history, load_contracts())
            showing = Showing(Stops(ControlView()), superseding, withholding, asking, clock)
            footing = Footing(kafka, TOPICS, feeds, asking, clock)
            made = Acknowledging(kafka, TOPICS, feeds.history, asking, footing, showing, 10, clock)
            takers.append(opened.enter_context(closing(made)))
        found = Desk(kafka, loop, takers)
        found.put(b"e")
        yield found


def test_another_event_at_the_cursor_of_an_old_one_gets_its_own_receipt(desk: Desk) -> None:
    """In a feed that was made anew; the same said again of the same event changes nothing."""
    for value in (b"old", b"new"):
        desk.put(value)
        assert [desk.say("accepted") for _ in range(2)] == [(1, 0), (0, 1)]


def test_who_says_again_what_it_said_before_its_last_word_is_heard(desk: Desk) -> None:
    """A repetition is of the newest word: an agency that takes its rejection back has accepted."""
    assert [desk.say("accepted"), desk.say("rejected", "wrong"), desk.say("accepted")] == [(1, 0)] * 3
    assert [desk.say("accepted"), desk.say("rejected", "late"), desk.say("rejected", "wrong")] == [
        (0, 1),
        (1, 0),
        (1, 0),
    ]
    assert desk.words()[-3:] == [("accepted", None), ("rejected", "late"), ("rejected", "wrong")]


def test_what_another_process_was_told_meanwhile_is_known(desk: Desk) -> None:
    """Requests go to any of them."""
    assert [desk.say("accepted"), desk.say("rejected", "wrong", by=1), desk.say("accepted")] == [(1, 0)] * 3
    assert [outcome for outcome, _ in desk.words()] == ["accepted", "rejected", "accepted"]


def by_value(record: Record) -> Entry:
    """Return an event whose id is its value."""
    return Entry(record.offset, {"id": (record.value or b"").decode()}, b"", record)
