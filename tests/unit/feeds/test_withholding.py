"""What was kept back is in no range that is acknowledged later, even where its grant was resumed in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson
import pytest
from cryptography.fernet import Fernet
from fastapi import Request

from consumers.feeds.acknowledging import Acknowledging
from consumers.feeds.api import FeedsApi
from consumers.feeds.asking import Asking
from consumers.feeds.footing import Footing
from consumers.feeds.showing import Showing
from consumers.feeds.superseding import Superseding
from consumers.feeds.withholding import Withholding
from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.delivery.cursors import Cursors
from services.identity.repository import key_digest
from services.runtime.clock import SystemClock
from services.runtime.errors import UnavailableError
from services.runtime.kafka.port import Partition
from services.runtime.settings import FeedsSettings, SecuritySettings
from services.subscriptions.control import ControlView
from services.subscriptions.sealing import Sealer
from services.subscriptions.stopping import SUBSCRIPTIONS, Stops
from tests.fakes.kafka import FakeKafka
from tests.unit.feeds.test_feeds import reading

TOPICS = Topics()
PLACE = Partition(TOPICS.parked("a"), 0)


class Rig:
    """Three events in a feed, the second by a grant of its own that is suspended."""

    def __init__(self) -> None:
        self.kafka, self.view = FakeKafka(), ControlView()
        self.kafka.admin().ensure_topics([*TOPICS.agency_specs("a"), *TOPICS.base_specs([])])
        keys = [{"id": "k", "digest": key_digest("key"), "expires_at": None}]
        access = {"agency": "a", "channel": "pull", "keys": keys, "version": 1}
        self.view.apply("access/a", orjson.dumps(access))
        self.view.apply("agency/a", orjson.dumps({"id": "a", "name": "a", "division": "510000", "sink": "x"}))
        self.grant("suspended")
        for n, grant in enumerate((b"s2", b"s1", b"s2")):
            headers = [("ce_id", b"e-%d" % n), (SUBSCRIPTIONS, grant)]
            self.kafka.producer().send(TOPICS.feed("a"), key=b"k", value=b"v", partition=0, headers=headers)

    def grant(self, state: str) -> None:
        """Decide about the second event's grant."""
        entry = {"id": "s1", "agency": "a", "types": ["x"], "state": state}
        self.view.apply("subscription/s1", orjson.dumps(entry))

    def receipts(self) -> list[tuple[int, str]]:
        """Return what is on the log of receipts, by cursor."""
        logs = [log for partition, log in self.kafka.logs.items() if partition.topic == TOPICS.receipts]
        found = [orjson.loads(record.value or b"") for log in logs for record in log]
        return sorted((one["cursor"], one["outcome"]) for one in found)

    def parked(self) -> list[bytes]:
        """Return the ids of what is parked."""
        return [dict(record.headers)["ce_id"] for record in self.kafka.logs[PLACE]]

    @asynccontextmanager
    async def process(self) -> AsyncIterator[Process]:
        """Run the feeds as a process that was just started."""
        clock, asking = SystemClock(), Asking(Cursors(self.kafka, TOPICS))
        async with reading(self.kafka, clock) as feeds:
            footing = Footing(self.kafka, TOPICS, feeds, asking, clock)
            withholding = Withholding(self.kafka, TOPICS, clock)
            superseding = Superseding(feeds.history, load_contracts())
            showing = Showing(Stops(self.view), superseding, withholding, asking, clock)
            taking = Acknowledging(self.kafka, TOPICS, feeds.history, asking, footing, showing, 10, clock)
            sealer = Sealer(SecuritySettings.model_validate({"master_key": Fernet.generate_key().decode()}))
            limits = FeedsSettings()
            yield Process(FeedsApi(self.view, feeds, asking, footing, taking, showing, sealer, limits, clock))
            taking.close()
            withholding.close()
            asking.close()


@dataclass
class Process:
    """What an agency asks of a process."""

    api: FeedsApi

    async def page(self) -> list[int]:
        """Return what a page shows, whose cursor is the last one's of the feed."""
        page = await self.api.read("a", -1, 10, 0, Request({"type": "http"}, _never))
        assert page.cursor == 2
        return [entry.cursor for entry in page.entries]

    async def stream(self) -> list[int]:
        """Return what a stream shows first."""
        stream = self.api.stream("a", -1, "json", "Bearer key")
        assert (await anext(stream)).startswith(b"retry")
        told = await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        return [int(line[4:]) for line in told.splitlines() if line.startswith(b"id: ")]

    async def acknowledge(self, **said: object) -> dict[str, object]:
        """Return what is answered to an acknowledgement."""
        return await self.api.acknowledge("a", orjson.dumps(said), {})


async def _never() -> dict[str, str]:
    await asyncio.Event().wait()
    return {}


Shows = Callable[[Process], Coroutine[None, None, list[int]]]
BOTH = pytest.mark.parametrize("shows", [Process.page, Process.stream])


@BOTH
def test_what_was_kept_back_is_not_accepted_by_a_range_once_its_grant_is_resumed(shows: Shows) -> None:
    """It is parked, once, and can be put back; the cursor passes it."""

    async def body() -> None:
        rig = Rig()
        async with rig.process() as process:
            assert await shows(process) == [0, 2]
            assert (rig.receipts(), rig.parked()) == ([(1, "parked")], [b"e-1"])
            rig.grant("active")
            assert await process.acknowledge(up_to=2) == {"after": 2, "recorded": 2, "repeated": 0}
        assert rig.receipts() == [(0, "accepted"), (1, "parked"), (2, "accepted")]
        assert rig.parked() == [b"e-1"]

    asyncio.run(body())


@BOTH
@pytest.mark.parametrize("state", ["active", "suspended"])
def test_another_process_knows_what_was_kept_back(shows: Shows, state: str) -> None:
    """Or the same one after a restart: it neither parks it again, nor takes it to be accepted."""

    async def body() -> None:
        rig = Rig()
        async with rig.process() as one, rig.process() as another:
            for process in (one, another, one):
                assert await shows(process) == [0, 2]
        rig.grant(state)
        async with rig.process() as process:
            assert (await process.acknowledge(up_to=2))["recorded"] == 2
        assert rig.receipts() == [(0, "accepted"), (1, "parked"), (2, "accepted")]
        assert rig.parked() == [b"e-1"]

    asyncio.run(body())


def test_nothing_is_shown_beyond_what_could_not_be_parked() -> None:
    """Asked again, it is parked; its receipt may stand there twice."""

    async def body() -> None:
        rig = Rig()
        place = rig.kafka.logs.pop(PLACE)
        async with rig.process() as process:
            with pytest.raises(UnavailableError):
                await process.page()
            rig.kafka.logs[PLACE] = place
            assert await process.page() == [0, 2]
        assert (set(rig.receipts()), rig.parked()) == ({(1, "parked")}, [b"e-1"])

    asyncio.run(body())


def test_what_the_agency_has_taken_before_or_names_is_its_own() -> None:
    """A page that goes back parks nothing of what it has; a receipt that names an event is about that event."""

    async def body() -> None:
        rig = Rig()
        async with rig.process() as process:
            rig.grant("active")
            await process.acknowledge(up_to=1)
            rig.grant("suspended")
            assert (await process.page(), rig.parked()) == ([0, 2], [])
        rig = Rig()
        async with rig.process() as process:
            assert await process.page() == [0, 2]
            await process.acknowledge(up_to=2, receipts=[{"cursor": 1}])
        assert (1, "accepted") in rig.receipts()

    asyncio.run(body())


def test_a_page_that_keeps_nothing_back_asks_nothing_of_the_parking_place() -> None:
    """Whoever has no stopped grant does not wait for it."""

    async def body() -> None:
        rig = Rig()
        rig.grant("active")
        del rig.kafka.logs[PLACE]
        async with rig.process() as process:
            assert await process.page() == [0, 1, 2]
        assert rig.receipts() == []

    asyncio.run(body())


def test_an_event_stopped_while_others_are_parked_is_parked_too() -> None:
    """A page is decided upon once everything that it keeps back is in the parking place."""

    async def body() -> None:
        rig = Rig()
        async with rig.process() as process:
            page = asyncio.create_task(process.page())
            async with asyncio.timeout(10):
                while not rig.parked():
                    await asyncio.sleep(0)
            entry = {"id": "s2", "agency": "a", "types": ["x"], "state": "suspended"}
            rig.view.apply("subscription/s2", orjson.dumps(entry))
            shown = await page
            assert {b"e-%d" % n for n in range(3) if n not in shown} == set(rig.parked())
            assert await process.page() == []
        assert sorted(rig.parked()) == [b"e-0", b"e-1", b"e-2"]

    asyncio.run(body())
