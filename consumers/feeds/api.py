"""The routes from which agencies pull: batches, long polls, streams, digests and receipts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ValidationError

from consumers.feeds.acknowledging import Acknowledging
from consumers.feeds.asking import Asking
from consumers.feeds.credentials import AgencyCredentials
from consumers.feeds.digest import digest_of
from consumers.feeds.entry import Entry
from consumers.feeds.feeds import Feeds
from consumers.feeds.footing import Footing
from consumers.feeds.showing import Showing
from schemas.times import asked_time
from services.delivery.acknowledgement import Acknowledgement, verified
from services.identity.access import Access
from services.runtime.clock import Clock
from services.runtime.errors import FieldProblem, HongyanError, InvalidError, UnavailableError
from services.runtime.mistakes import bad_fields
from services.runtime.settings import FeedsSettings
from services.subscriptions.control import ControlView
from services.subscriptions.sealing import Sealer

BATCH_TYPE = "application/cloudevents-batch+json; charset=utf-8"
CURSOR_HEADER = "hongyan-cursor"
MORE_HEADER = "hongyan-more"
MAX_ACK_BYTES = 256 * 1024
STREAM_BATCH = 100
BEHIND = "up_to 不超过游标 {0}，没有可记的；补记更早的须给出 from (the cursor is there already; earlier ones need from)"
Authorization = Annotated[str, Header()]
Data = Annotated[Literal["json", "avro"], Query(description="how the data of events comes")]


class Openings:
    """Counts what is open, so that neither one agency nor all together take everything."""

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self.open: Counter[str] = Counter()
        self.streams: Counter[str] = Counter()

    def check(self, agency: str) -> None:
        """Raise 429 or UnavailableError when no more may be opened."""
        if self.open[agency] >= self._most_of_one:
            detail = f"{agency} 同时打开的请求已达 {self._most_of_one} 个 (too many of yours are open)"
            raise HTTPException(429, detail, {"Retry-After": "2"})
        if self.open.total() >= self._most:
            raise UnavailableError(f"同时打开的请求已达 {self._most} 个 (too many are open)")

    @contextmanager
    def one(self, agency: str) -> Iterator[None]:
        """Count one request while it lasts; raises what ``check`` raises."""
        self.check(agency)
        with self._counted(agency, self.open):
            yield

    @contextmanager
    def streaming(self, agency: str) -> Iterator[None]:
        """Count a stream while it lasts; raises what ``check`` raises."""
        self.check(agency)
        with self._counted(agency, self.open, self.streams):
            yield

    @staticmethod
    @contextmanager
    def _counted(agency: str, *counts: Counter[str]) -> Iterator[None]:
        for count in counts:
            count[agency] += 1
        try:
            yield
        finally:
            for count in counts:
                count[agency] -= 1
                if not count[agency]:
                    del count[agency]


@dataclass(frozen=True, slots=True)
class Page:
    """What is shown of a stretch of a feed, the cursor up to which that is everything, and whether there is more."""

    entries: Sequence[Entry]
    cursor: int
    more: bool


class FeedsApi:
    """What the routes do."""

    def __init__(
        self,
        view: ControlView,
        feeds: Feeds,
        cursors: Asking,
        footing: Footing,
        acknowledging: Acknowledging,
        showing: Showing,
        sealer: Sealer,
        settings: FeedsSettings,
        clock: Clock,
    ) -> None:
        self.credentials = AgencyCredentials(view, clock)
        self.openings = Openings(settings.max_open, settings.max_open_agency)
        self.closing = asyncio.Event()
        self._view = view
        self._feeds = feeds
        self._cursors = cursors
        self._footing = footing
        self._acknowledging = acknowledging
        self._showing = showing
        self._sealer = sealer
        self._settings = settings
        self._clock = clock

    async def state(self, agency: str) -> dict[str, object]:
        """Return where an agency stands in its feed."""
        kept = await self._feeds.history.bounds(agency)
        cursor = await self._cursors.get(agency)
        found = {"agency": agency, "channel": self._view.channel(agency), "after": cursor - 1}
        return found | {"earliest": kept.earliest, "latest": kept.end - 1}

    async def start(self, agency: str, after: int | None, since: datetime | None) -> int:
        """Return the cursor to read beyond: the one given, the last before a time, or where the agency stands."""
        if since is not None:
            return await self._feeds.history.at(agency, int(since.timestamp() * 1000)) - 1
        channel = self._view.channel(agency)
        if after is not None:
            if channel == "pull" and not await self._feeds.reaches(agency, after + 1):
                await self._footing.at(agency)  # it may be where its own cursor stands
            return after
        if channel == "pull":
            return await self._footing.at(agency) - 1
        cursor_of = self._cursors.get if channel == "webhook" else self._cursors.handed_over
        return await cursor_of(agency) - 1

    async def read(self, agency: str, after: int, limit: int, wait_s: float, request: Request) -> Page:
        """Read, and wait no longer than the caller or this process lives."""
        entries = await self._read(agency, after, limit, wait_s, request)
        cursor = entries[-1].cursor if entries else after
        more = len(entries) >= limit or (bool(entries) and await self._feeds.goes_on(agency, cursor))
        return Page(await self._showing.of(agency, entries, self._view.channel(agency)), cursor, more)

    async def _read(self, agency: str, after: int, limit: int, wait_s: float, request: Request) -> list[Entry]:
        reading = asyncio.ensure_future(self._feeds.read(agency, after, limit, wait_s))
        others = [asyncio.ensure_future(_gone(request)), asyncio.ensure_future(self.closing.wait())]
        try:
            await asyncio.wait([reading, *others], return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else []
        finally:
            for task in (reading, *others):
                task.cancel()

    async def check_start(self, agency: str, after: int) -> None:
        """Raise what reading beyond this cursor would raise, before a stream has begun."""
        await self._feeds.read(agency, after, 1, 0.0)

    async def stream(self, agency: str, after: int, data: str, authorization: str) -> AsyncIterator[bytes]:
        """Give the feed as server-sent events. A slow reader slows itself only: nothing is queued for it."""
        try:
            with self.openings.streaming(agency):
                yield b"retry: 2000\n\n"
                closing = asyncio.ensure_future(self.closing.wait())
                try:
                    while not closing.done():
                        self.credentials.check(authorization, agency)
                        reading = asyncio.ensure_future(
                            self._feeds.read(agency, after, STREAM_BATCH, self._settings.heartbeat_s)
                        )
                        await asyncio.wait([reading, closing], return_when=asyncio.FIRST_COMPLETED)
                        if not reading.done():
                            reading.cancel()
                            return
                        entries = reading.result()
                        shown = await self._showing.of(agency, entries, self._view.channel(agency))
                        # Rights may have ended while it waited.
                        self.credentials.check(authorization, agency)
                        yield b"".join(_sse(entry, data) for entry in shown) or b": heartbeat\n\n"
                        after = entries[-1].cursor if entries else after
                finally:
                    closing.cancel()
        except (HongyanError, HTTPException) as error:
            # The headers are long gone: the stream says why it ends, and the client comes again and is answered.
            detail = error.detail if isinstance(error, HTTPException) else str(error)
            yield b"event: problem\ndata: " + orjson.dumps({"detail": detail}) + b"\n\n"

    async def digest(self, agency: str, start: int, end: int) -> dict[str, object]:
        """Return count and digest of what is shown between two cursors, both included.

        What another event has taken the place of is shown by name, and counts; what was stopped is not, and does not.
        """
        last = (await self._feeds.history.bounds(agency)).end - 1
        if start > end:
            raise InvalidError([FieldProblem("/to", "不应小于 from (not less than from)")])
        if end > last:
            # What comes later would be in the answer to the same question: it is none about completeness.
            raise InvalidError([FieldProblem("/to", f"超出队列末尾 {last} (beyond the end of the feed)")])
        most, events = self._settings.max_digest, []
        following = start
        while following <= end:
            entries = await self._feeds.history.read(agency, following, end + 1, 2000)
            if not entries:
                break
            shown = self._showing.allowed(agency, entries)
            events += [tuple(e.attributes.get(n, "") for n in ("source", "id", "subject")) for e in shown]
            following = entries[-1].cursor + 1
            if len(events) > most:
                detail = f"一次至多 {most} 个事件，分段核对 (too many at once; ask for shorter stretches)"
                raise InvalidError([FieldProblem("/to", detail)])
        found = await asyncio.to_thread(digest_of, events)
        return {"agency": agency, "from": start, "to": end, "count": found.count, "sha256": found.sha256}

    async def acknowledge(self, agency: str, body: bytes, headers: dict[str, str]) -> dict[str, object]:
        """Take an agency's receipts."""
        signed = verified(self._ack_key(agency), headers, body, self._clock.now().timestamp())
        try:
            said = Acknowledgement.model_validate_json(body)
        except ValidationError as error:
            raise InvalidError(bad_fields(error.errors())) from error
        channel, streamed = self._view.channel(agency), self.openings.streams[agency] > 0
        taken = await self._acknowledging.take(agency, channel, said, body, signed, streamed=streamed)
        self._showing.moved(agency, taken.cursor)
        answer = {"after": taken.cursor - 1, "recorded": taken.recorded, "repeated": taken.repeated}
        return answer | ({"hint": BEHIND.format(taken.cursor - 1)} if taken.behind else {})

    def _ack_key(self, agency: str) -> str | None:
        key = self._view.access.get(agency, Access(agency)).ack_key
        return self._sealer.open(key) if key is not None and not key.startswith("whpk_") else key


def feed_routes(api: FeedsApi, settings: FeedsSettings) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/feeds/{agency}", dependencies=[Depends(check_parameters)])

    @router.get("")
    async def state(agency: str, authorization: Authorization = "") -> dict[str, object]:
        api.credentials.check(authorization, agency)
        with api.openings.one(agency):
            return await api.state(agency)

    @router.get("/events")
    async def events(
        agency: str,
        request: Request,
        after: Annotated[int | None, Query(ge=-1)] = None,
        since: str | None = None,
        limit: Annotated[int, Query(ge=1)] = 100,
        wait: Annotated[float, Query(ge=0)] = 0.0,
        data: Data = "json",
        authorization: Authorization = "",
    ) -> Response:
        api.credentials.check(authorization, agency)
        with api.openings.one(agency):
            start = await api.start(agency, after, _time(since, after))
            limit, wait = min(limit, settings.max_batch), min(wait, settings.max_wait_s)
            page = await api.read(agency, start, limit, wait, request)
        # Rights may have ended while it waited.
        api.credentials.check(authorization, agency)
        return _batch(page, data)

    @router.get("/stream")
    async def stream(
        agency: str,
        after: Annotated[int | None, Query(ge=-1)] = None,
        since: str | None = None,
        data: Data = "json",
        authorization: Authorization = "",
        last_event_id: Annotated[int | None, Header(ge=-1)] = None,
    ) -> Response:
        api.credentials.check(authorization, agency)
        since_at = _time(since, after)
        after, since_at = (after, since_at) if last_event_id is None else (last_event_id, None)
        with api.openings.one(agency):
            start = await api.start(agency, after, since_at)
            await api.check_start(agency, start)
        return StreamingResponse(
            api.stream(agency, start, data, authorization),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    @router.get("/digest")
    async def digest(
        agency: str,
        start: Annotated[int, Query(alias="from", ge=0)],
        end: Annotated[int, Query(alias="to", ge=0)],
        authorization: Authorization = "",
    ) -> dict[str, object]:
        api.credentials.check(authorization, agency)
        with api.openings.one(agency):
            return await api.digest(agency, start, end)

    @router.post("/acks")
    async def acks(agency: str, request: Request, authorization: Authorization = "") -> dict[str, object]:
        api.credentials.check(authorization, agency)
        with api.openings.one(agency):
            body = await _body(request)
            return await api.acknowledge(agency, body, dict(request.headers))

    return router


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_ACK_BYTES:
            raise HTTPException(413, f"回执至多 {MAX_ACK_BYTES} 字节 (at most so many bytes)")
    return body


def _batch(page: Page, data: str) -> Response:
    bodies = (entry.shown(data) for entry in page.entries)
    headers = {CURSOR_HEADER: str(page.cursor), MORE_HEADER: "true" if page.more else "false"}
    return Response(b"[" + b",".join(bodies) + b"]", media_type=BATCH_TYPE, headers=headers)


def _sse(entry: Entry, data: str) -> bytes:
    return b"id: %d\ndata: %b\n\n" % (entry.cursor, entry.shown(data))


def check_parameters(request: Request) -> None:
    """Raise InvalidError for query parameters that the route does not know: a mistyped one would count for nothing."""
    known = {one.alias for one in request.scope["route"].dependant.query_params}
    unknown = [name for name in dict.fromkeys(request.query_params) if name not in known]
    if unknown:
        named = f"，可用的是 {'、'.join(sorted(known))}" if known else ""
        detail = f"没有这个查询参数{named} (no such parameter)"
        raise InvalidError([FieldProblem(f"/{name}", detail) for name in unknown])


def _time(text: str | None, after: int | None) -> datetime | None:
    """Return the time that a reading is to begin at; a cursor to begin after says another thing."""
    if text is None:
        return None
    if after is not None:
        raise InvalidError([FieldProblem("/since", "与 after 只能给一个 (give one of since and after)")])
    try:
        return asked_time(text)
    except ValueError as error:
        raise InvalidError([FieldProblem("/since", str(error))]) from error


async def _gone(request: Request) -> None:
    """Return when the caller has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
