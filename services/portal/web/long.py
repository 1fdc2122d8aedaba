"""Long work on pages: what ends soon is answered at once; what does not has a page that tells how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from services.portal.progress import Progress
from services.portal.web.rendering import Pages
from services.portal.web.viewer import Viewer, Viewing, Watching
from services.portal.working import Job, Work, shown

SOON_S = 1.5
SEE_OTHER = 303
TOLD_EVERY_S = 0.5
TOLD_FOR_S = 600.0
LOOKED_AFTER = 20
"""After so many tellings it is seen whether the asker is still signed in."""


class Long:
    """Begins long work for whoever looks at a page, and finds it again."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def begin(
        self,
        viewer: Viewer,
        kind: str,
        about: str,
        then: str,
        run: Callable[[Progress], Any],
        soon_s: float = SOON_S,
    ) -> Response:
        """Begin, and lead to the result, or where it takes longer to the page that waits for it; raises BusyError."""
        job = self.work.start(viewer.person.id, kind, about, then, run)
        return RedirectResponse(job.then if job.ended.wait(soon_s) else f"/jobs/{job.id}", SEE_OTHER)

    def job(self, viewer: Viewer, identity: str) -> Job:
        """Return somebody's own job; raises NotFoundError."""
        return self.work.of(viewer.person.id, identity)


def routes(pages: Pages, long: Long) -> APIRouter:
    """Return the page of work that is under way."""
    router = APIRouter()

    @router.get("/jobs/{identity}")
    def waiting(identity: str, viewer: Viewing) -> Response:
        job = long.job(viewer, identity)
        if job.state in {"done", "failed"}:
            return RedirectResponse(job.then, SEE_OTHER)
        return pages.page(viewer, "work/waiting.html", job=shown(long.work, job))

    @router.get("/live/jobs/{identity}")
    def live(identity: str, viewer: Watching) -> Response:
        job = long.job(viewer, identity)

        def said() -> str:
            return pages.part(viewer, "work/state.html", job=shown(long.work, job))

        return StreamingResponse(told(said, lambda: pages.still(viewer)), media_type="text/event-stream")

    return router


async def told(said: Callable[[], str], still: Callable[[], bool], every_s: float = TOLD_EVERY_S) -> AsyncIterator[str]:
    """Give what is said of work whenever it has changed, as long as its asker is signed in.

    When the work has ended nothing changes any more; the stream stays, so that the browser does not ask again.
    """
    last = ""
    for number in range(round(TOLD_FOR_S / TOLD_EVERY_S)):
        if number % LOOKED_AFTER == 0 and not await asyncio.to_thread(still):
            yield "event: signed-out\ndata:\n\n"
            return
        now = said()
        yield ": as before\n\n" if now == last else "".join(f"data: {line}\n" for line in now.splitlines()) + "\n"
        last = now
        await asyncio.sleep(every_s)
