"""What the routes owe to who may read what, and to how much may be open: on a cluster in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from fastapi import HTTPException, Request
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry
from starlette.types import Message

from consumers.feeds.api import FeedsApi, Openings, feed_routes
from consumers.feeds.asking import Asking
from consumers.feeds.showing import Showing
from consumers.feeds.superseding import Superseding
from consumers.feeds.withholding import Withholding
from schemas.contracts import load_contracts
from services.delivery.cursors import Cursors
from services.identity.repository import key_digest
from services.runtime.clock import SystemClock
from services.runtime.probes import Health
from services.runtime.settings import FeedsSettings
from services.runtime.web import new_app
from services.subscriptions.control import ControlView
from services.subscriptions.stopping import Stops
from tests.fakes.kafka import FakeKafka
from tests.unit.feeds.test_feeds import TOPICS, reading

KEY = "hya_secret"
AGENCY = {"id": "a", "name": "a", "division": "510000", "sink": "http://127.0.0.1/", "state": "active", "keys": []}
ACCESS = {"agency": "a", "channel": "pull", "keys": [{"id": "k", "digest": key_digest(KEY), "expires_at": None}]}


@dataclass
class Served:
    """An agency's feed and what serves it."""

    kafka: FakeKafka
    view: ControlView
    api: FeedsApi

    def publish(self, number: int = 1) -> None:
        """Put events on the feed."""
        for _ in range(number):
            self.kafka.producer().send(TOPICS.feed("a"), key=b"k", value=b'{"secret":1}')

    def set(self, kind: str, value: dict[str, Any]) -> None:
        """Change the configuration."""
        assert self.view.apply(f"{kind}/a", orjson.dumps(value))


@asynccontextmanager
async def served(most_of_one: int = 5) -> AsyncIterator[Served]:
    """Serve one agency that pulls."""
    kafka, clock, view = FakeKafka(), SystemClock(), ControlView()
    kafka.admin().ensure_topics(TOPICS.agency_specs("a"))
    async with reading(kafka, clock) as feeds:
        asking, withholding = Asking(Cursors(kafka, TOPICS)), Withholding(kafka, TOPICS, clock)
        superseding = Superseding(feeds.history, load_contracts())
        showing = Showing(Stops(view), superseding, withholding, asking, clock)
        limits = FeedsSettings(max_open_agency=most_of_one)
        none: Any = None
        found = Served(kafka, view, FeedsApi(view, feeds, asking, none, none, showing, none, limits, clock))
        found.set("agency", AGENCY)
        found.set("access", ACCESS)
        yield found
        withholding.close()
        asking.close()


@pytest.mark.parametrize(
    ("kind", "ended"), [("access", ACCESS | {"keys": []}), ("agency", AGENCY | {"state": "suspended"})]
)
def test_a_stream_shows_nothing_that_comes_after_its_right_has_ended(kind: str, ended: dict[str, Any]) -> None:
    """Though it was waiting for just that event when the key was revoked, or the agency suspended."""

    async def stream() -> list[bytes]:
        async with served() as one:
            parts = one.api.stream("a", -1, "json", f"Bearer {KEY}")
            assert (await anext(parts)).startswith(b"retry")
            following = asyncio.ensure_future(anext(parts))
            await asyncio.sleep(0)
            one.set(kind, ended)
            one.publish()
            return [await following, *[part async for part in parts]]

    (told,) = asyncio.run(stream())
    assert told.startswith(b"event: problem")
    assert b"secret" not in told


def test_streams_that_are_opened_at_once_are_counted() -> None:
    """The last ones end with why, however many had been let in before any was counted."""

    async def firsts() -> list[bytes]:
        async with served(most_of_one=3) as one:
            streams = [one.api.stream("a", -1, "json", f"Bearer {KEY}") for _ in range(5)]
            found = [await anext(stream) for stream in streams]
            assert one.api.openings.open["a"] == 3
            for stream in streams:
                await stream.aclose()  # type: ignore[attr-defined]
            assert not one.api.openings.open
            return found

    told = asyncio.run(firsts())
    assert [part.startswith(b"retry") for part in told] == [True, True, True, False, False]
    assert all("已达 3 个" in part.decode() for part in told[3:])


def test_openings_are_bounded_for_streams_as_for_requests() -> None:
    """A stream takes a place as any request does."""
    openings = Openings(10, 1)
    with openings.streaming("a"), pytest.raises(HTTPException), openings.one("a"):
        pass
    with openings.one("a"), pytest.raises(HTTPException), openings.streaming("a"):
        pass


def test_a_page_that_ends_early_says_that_there_is_more() -> None:
    """It ends where memory begins; who pulls by a timer goes on only where it is told to."""

    async def pages() -> list[tuple[int, bool]]:
        async with served() as one:
            one.publish(5)
            await one.api._feeds.read("a", 4, 1, 0.0)  # from here on it is in memory
            one.publish(5)
            await one.api._feeds.read("a", 8, 1, 5.0)
            found, after, more = [], -1, True
            while more:
                page = await one.api.read("a", after, 100, 0.0, Request({"type": "http"}, _never))
                found.append((len(page.entries), page.more))
                after, more = page.cursor, page.more
            return found

    assert asyncio.run(pages()) == [(5, True), (5, False)]


async def _never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize(
    ("asked", "pointers"),
    [
        ("/events?affter=5", ["/affter"]),
        ("/events?after=5&limits=1&Wait=2", ["/limits", "/Wait"]),
        ("/stream?after=5&limit=1", ["/limit"]),
        ("/digest?from=0&to=1&after=5", ["/after"]),
        ("?after=5", ["/after"]),
        ("/events?after=5&since=2025-12-01T00:00:00+08:00", ["/since"]),
        ("/stream?after=5&since=2025-12-01T00:00:00+08:00", ["/since"]),
    ],
)
def test_what_would_count_for_nothing_is_refused_by_name(asked: str, pointers: list[str]) -> None:
    """A mistyped parameter would give another stretch than was asked for, and so would one of two beginnings."""

    async def answered() -> tuple[int, list[str]]:
        async with served() as one:
            app = new_app("t", lambda: Health(ok=True), CollectorRegistry())
            app.include_router(feed_routes(one.api, FeedsSettings()))
            with TestClient(app, headers={"Authorization": f"Bearer {KEY}", "Last-Event-ID": "7"}) as client:
                answer = await asyncio.to_thread(client.get, f"/v1/feeds/a{asked}")
            return answer.status_code, [each["pointer"] for each in answer.json()["errors"]]

    assert asyncio.run(answered()) == (422, pointers)
