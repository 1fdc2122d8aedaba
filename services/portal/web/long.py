"""Long work on pages: what ends soon is answered at once; what does not has a page that tells how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse

from services.portal.progress import Progress
from services.portal.web.live import Streams
from services.portal.web.rendering import Pages
from services.portal.web.viewer import Viewer, Viewing, Watching
from services.portal.working import Job, Work, shown

SOON_S = 1.5
SEE_OTHER = 303


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


def routes(pages: Pages, long: Long, streams: Streams) -> APIRouter:
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

        return streams.stream(pages, viewer, ("job", job.id), said)

    return router
