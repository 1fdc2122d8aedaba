"""Long work on pages: what ends soon leads to its result at once, what does not is told how far it is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute

from services.identity.people import Person
from services.portal.progress import Progress
from services.portal.web.live import Streams
from services.portal.web.long import Long, routes
from services.portal.web.rendering import FOLDER, Pages, Statics, _environment
from services.portal.web.viewer import Viewer, Visitor
from services.portal.working import Job, Work
from services.runtime.clock import SystemClock

VIEWER = Viewer(
    language="zh",
    theme="auto",
    csrf="c",
    path="/",
    address="",
    person=Person("li", "李四", agency="market"),
    session="s",
)


def test_what_ends_soon_leads_to_its_result_and_what_does_not_to_the_page_that_waits() -> None:
    """By its own number either way."""
    long, gate = Long(Work(SystemClock(), threading.Event())), threading.Event()
    quick = long.begin(VIEWER, "explain", "x", "/explain/{job}", lambda _: 1)
    assert quick.headers["location"].startswith("/explain/")
    slow = long.begin(VIEWER, "dry-run", "x", "/x/{job}", lambda _: gate.wait(10), soon_s=0.01)
    assert slow.headers["location"].startswith("/jobs/")
    assert long.job(VIEWER, slow.headers["location"].rpartition("/")[2]).state in {"waiting", "running"}
    gate.set()


class FewPages(Pages):
    """The pages that a stream asks for: its part, and whether its viewer is signed in still."""

    def __init__(self, *, signed_in: bool = True) -> None:
        self.signed_in = signed_in
        self._template = _environment(Statics(FOLDER / "static"), SystemClock()).get_template("work/state.html")

    def part(self, viewer: Visitor, template: str, **values: object) -> str:
        """Return how work stands."""
        assert template == "work/state.html"
        return self._template.render(language=viewer.language, **values)

    def still(self, viewer: Viewer) -> bool:
        """Tell whether the viewer has not signed out."""
        return self.signed_in


async def heard(pages: Pages, work: Work, job: Job, on_message: Callable[[str], bool], most: int = 9) -> list[str]:
    """Open the stream of a job as its page does; return what it says until ``on_message`` has heard enough."""
    streams = Streams(threading.Event(), SystemClock(), most=most)
    router = routes(pages, Long(work), streams)
    live = next(one for one in router.routes if isinstance(one, APIRoute) and one.path.startswith("/live/"))
    answer = live.endpoint(job.id, VIEWER)
    if not isinstance(answer, StreamingResponse):
        return [str(answer.status_code)]
    found: list[str] = []
    async for message in answer.body_iterator:
        found.append(str(message))
        assert sum(streams._open.values()) == 1
        if on_message(found[-1]):
            break
    return found


def test_how_far_work_is_is_told_until_it_has_ended() -> None:
    """Only what has changed is sent again; at the end it says where the result is, and nothing more."""
    work, gate = Work(SystemClock(), threading.Event()), threading.Event()

    def run(progress: Progress) -> bool:
        progress.sized(4)
        progress.step()
        return gate.wait(10)

    def on_message(text: str) -> bool:
        if "25%" in text:
            gate.set()
        return "看结果" in text

    job = work.start("li", "dry-run", "x", "/x/{job}", run)
    messages = asyncio.run(asyncio.wait_for(heard(FewPages(), work, job, on_message), 10))
    assert all(line.startswith("data: ") for line in messages[-1].strip().splitlines())
    assert job.then in messages[-1]


def test_who_has_signed_out_is_told_and_hears_no_more() -> None:
    """The page then loads itself anew, and leads to the sign-in."""
    work = Work(SystemClock(), threading.Event())
    job = work.start("li", "dry-run", "x", "/x/{job}", lambda _: True)
    messages = asyncio.run(heard(FewPages(signed_in=False), work, job, lambda _: False))
    assert messages[-1].startswith("event: signed-out")


def test_no_more_streams_of_work_are_open_than_the_portal_serves() -> None:
    """They count like those of live numbers."""
    work = Work(SystemClock(), threading.Event())
    job = work.start("li", "dry-run", "x", "/x/{job}", lambda _: True)
    assert asyncio.run(heard(FewPages(), work, job, lambda _: True, most=0)) == ["503"]
