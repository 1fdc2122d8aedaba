"""Live parts of pages: an open stream on which the server sends a part anew whenever it looks different."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from contextlib import contextmanager

from fastapi import Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from services.portal.web.rendering import Pages
from services.portal.web.viewer import Viewer
from services.runtime.clock import Clock
from services.runtime.errors import HongyanError

PERIOD_S = 1.0
HEARTBEAT_S = 15.0
LONGEST_S = 3600.0
"""A stream ends after an hour; the page opens another."""
RETRY_S = 10
MOST = 200
MOST_OF_ONE = 12
SHARED_S = 1.0
PATIENT_S = 5.0
"""A part so old is still shown while somebody renders it anew."""
MOST_PARTS = 256
BUSY = "实时连接已满，页面稍后再试 (too many live streams; the page tries again)"


class Shared:
    """Parts that many see alike: rendered once for all who look at the same time. ``key`` names all that matters."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._parts: OrderedDict[Hashable, tuple[float, str]] = OrderedDict()
        self._rendering: set[Hashable] = set()
        self._lock = threading.Lock()

    def get(self, key: Hashable, render: Callable[[], str]) -> str | None:
        """Return a part that is younger than a second, rendered now unless there is one.

        Nobody waits for another's rendering: meanwhile the last is shown, None where there is none or it is old.
        """
        with self._lock:
            now, others = self._clock.monotonic(), key in self._rendering
            held = self._parts.get(key)
            if held is not None and 0 <= now - held[0] < (PATIENT_S if others else SHARED_S):
                return held[1]
            if others:
                return None
            self._rendering.add(key)
        try:
            part = render()
            with self._lock:
                self._parts[key] = (now, part)
                while len(self._parts) > MOST_PARTS:
                    self._parts.popitem(last=False)
            return part
        finally:
            with self._lock:
                self._rendering.discard(key)


class Streams:
    """Counts what is open: no more than the portal can serve, and of one session a few."""

    def __init__(
        self, closing: threading.Event, clock: Clock, most: int = MOST, most_of_one: int = MOST_OF_ONE
    ) -> None:
        self._stop = closing
        self._shared = Shared(clock)
        self._most = most
        self._most_of_one = most_of_one
        self._open: dict[str, int] = {}
        self._lock = threading.Lock()

    def full(self, session: str) -> bool:
        """Tell whether no more can be opened, by anybody or by this session."""
        with self._lock:
            return self._open.get(session, 0) >= self._most_of_one or sum(self._open.values()) >= self._most

    def stream(self, pages: Pages, viewer: Viewer, key: Hashable, render: Callable[[], str]) -> Response:
        """Return an answer that sends a part whenever it has changed, with signs of life between.

        Whoever has the same ``key`` and language is shown the same part.
        """
        if self._stop.is_set() or self.full(viewer.session):
            return PlainTextResponse(BUSY, 503, {"Retry-After": str(RETRY_S)})
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        sent = self._sent(pages, viewer, lambda: self._shared.get((key, viewer.language), render))
        return StreamingResponse(sent, media_type="text/event-stream", headers=headers)

    async def _sent(self, pages: Pages, viewer: Viewer, render: Callable[[], str | None]) -> AsyncIterator[str]:
        with self.opened(viewer.session):
            last, spoke, began = "", time.monotonic(), time.monotonic()
            yield f"retry: {RETRY_S * 1000}\n\n"
            while not self._stop.is_set() and time.monotonic() - began < LONGEST_S:
                if not await run_in_threadpool(pages.still, viewer):
                    yield "event: signed-out\ndata: \n\n"
                    return
                part = await run_in_threadpool(_rendered, render)
                if part is not None and part != last:
                    last, spoke = part, time.monotonic()
                    yield message(part)
                elif time.monotonic() - spoke >= HEARTBEAT_S:
                    spoke = time.monotonic()
                    yield ": still here\n\n"
                await asyncio.sleep(PERIOD_S)

    @contextmanager
    def opened(self, session: str) -> Iterator[None]:
        """Count one as open."""
        # Counted from the first message on: an answer that nobody ever reads is never begun.
        with self._lock:
            self._open[session] = self._open.get(session, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._open[session] -= 1
                if not self._open[session]:
                    del self._open[session]


def _rendered(render: Callable[[], str | None]) -> str | None:
    """Render once more; what can't be rendered now leaves the page as it is, which marks its own age."""
    try:
        return render()
    except HongyanError:
        return None


def message(part: str) -> str:
    """Return a part of a page as a message of an event stream."""
    return "".join(f"data: {line}\n" for line in part.splitlines() or [""]) + "\n"
