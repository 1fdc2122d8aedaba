"""What an agency that pulls is shown: follow-ups are looked for where it may have had an event before, there only."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from consumers.feeds.asking import Asking
from consumers.feeds.entry import Entry
from consumers.feeds.history import History
from consumers.feeds.showing import CURSOR_S, FRESH_MS, Showing
from consumers.feeds.superseding import Superseding
from consumers.feeds.withholding import Withholding
from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.delivery.cursors import Cursors
from services.runtime.kafka.port import Committed, Partition
from services.subscriptions.control import ControlView
from services.subscriptions.stopping import Stops
from tests.events import CORRECTED, ISSUED, REVOKED
from tests.fakes.kafka import FakeKafka, FakeRecord
from tests.fakes.virtual_time import VirtualClock

TOPICS = Topics()
FEED = Partition(TOPICS.feed("a"), 0)


class CountedCursors(Cursors):
    """Counts how often Kafka is asked."""

    asked = 0

    def get(self, agency: str) -> int:
        """Return the cursor."""
        self.asked += 1
        return super().get(agency)


@dataclass
class Rig:
    """A feed in memory, and what is shown of it."""

    kafka: FakeKafka
    clock: VirtualClock
    cursors: CountedCursors
    showing: Showing

    def put(self, *events: tuple[str, str, bytes]) -> list[Entry]:
        """Append events (id, type, key), published now."""
        now = int(self.clock.now().timestamp() * 1000)
        log, made = self.kafka.logs[FEED], []
        for name, kind, key in events:
            headers = [("ce_id", name.encode()), ("ce_type", kind.encode())]
            log.append(FakeRecord(FEED.topic, 0, len(log), now, key, b"", headers))
            made.append(Entry(len(log) - 1, {"id": name, "type": kind}, b"{}", log[-1]))
        return made

    def had(self, cursor: int) -> None:
        """Let the agency have everything below a cursor."""
        self.kafka.admin().set_group_offsets(TOPICS.agency_group("a"), {FEED: Committed(cursor)})

    async def shown(self, entries: list[Entry]) -> list[str | None]:
        """Return what took each one's place."""
        return [entry.superseded_by for entry in await self.showing.of("a", entries)]


def rig() -> Rig:
    """Return a feed with nothing in it."""
    kafka, clock = FakeKafka(), VirtualClock()
    kafka.admin().ensure_topics(TOPICS.agency_specs("a"))
    cursors = CountedCursors(kafka, TOPICS)
    superseding = Superseding(History(kafka, TOPICS, lambda record: Entry(0, {}, b"", record), 1), load_contracts())
    withholding = Withholding(kafka, TOPICS, clock)
    return Rig(kafka, clock, cursors, Showing(Stops(ControlView()), superseding, withholding, Asking(cursors), clock))


def test_whoever_follows_its_feed_costs_no_question() -> None:
    """Fresh events are new to it; older ones are asked of once a second."""

    async def body() -> None:
        found = rig()
        entries = found.put(("e1", ISSUED, b"k"), ("r1", REVOKED, b"k"))
        assert await found.shown(entries) == [None, None]
        assert found.cursors.asked == 0
        found.clock.seconds += FRESH_MS / 1000
        for _ in range(3):
            assert await found.shown(entries) == [None, None]
        assert found.cursors.asked == 1
        found.had(2)
        found.clock.seconds += CURSOR_S
        assert await found.shown(entries) == ["r1", None]

    asyncio.run(body())


def test_what_an_agency_has_just_acknowledged_is_known_at_once() -> None:
    """However fresh the events are."""

    async def body() -> None:
        found = rig()
        entries = found.put(("e1", ISSUED, b"k"), ("c1", CORRECTED, b"k"), ("e2", ISSUED, b"k2"))
        found.showing.moved("a", 2)
        assert await found.shown(entries) == ["c1", None, None]
        assert found.cursors.asked == 0
        found.put(("c2", CORRECTED, b"k"))
        assert await found.shown(entries) == ["c2", "c2", None]

    asyncio.run(body())


def test_a_follow_up_that_was_put_back_is_about_what_came_before_it_was_first_told() -> None:
    """What was issued anew under the key in between stands; another domain's event of the same key does too."""

    async def body() -> None:
        found = rig()
        entries = found.put(
            ("e1", ISSUED, b"k"),
            ("c1", CORRECTED, b"k"),
            ("other", "cn.gov.sc.credit.listed", b"k"),
            ("e2", ISSUED, b"k"),
            ("c1", CORRECTED, b"k"),
        )
        found.showing.moved("a", 5)
        assert await found.shown(entries) == ["c1", None, None, None, None]

    asyncio.run(body())
