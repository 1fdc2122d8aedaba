"""Long work on pages: what ends soon leads to its result at once, what does not is told how far it is."""

from __future__ import annotations

import asyncio
import threading

from services.identity.people import Person
from services.portal.progress import Progress
from services.portal.web.long import Long, told
from services.portal.web.rendering import FOLDER, Statics, _environment
from services.portal.web.viewer import Viewer
from services.portal.working import Work, shown
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


def test_how_far_work_is_is_told_until_it_has_ended() -> None:
    """Only what has changed is sent again; at the end it says where the result is, and nothing more."""
    work, gate = Work(SystemClock(), threading.Event()), threading.Event()
    state = _environment(Statics(FOLDER / "static"), SystemClock()).get_template("work/state.html")

    def run(progress: Progress) -> bool:
        progress.sized(4)
        progress.step()
        return gate.wait(10)

    job = work.start("li", "dry-run", "x", "/x/{job}", run)

    async def listen() -> list[str]:
        found: list[str] = []
        async for message in told(lambda: state.render(language="zh", job=shown(work, job)), lambda: True, 0.01):
            if message.startswith("data:"):
                found.append(message)
            if "25%" in message:
                gate.set()
            if "看结果" in message:
                break
        return found

    messages = asyncio.run(asyncio.wait_for(listen(), 10))
    assert all(line.startswith("data: ") for line in messages[-1].strip().splitlines())
    assert job.then in messages[-1]


def test_who_has_signed_out_is_told_and_hears_no_more() -> None:
    """The page then loads itself anew, and leads to the sign-in."""

    async def listen() -> list[str]:
        return [message async for message in told(lambda: "x", lambda: False)]

    assert asyncio.run(listen()) == ["event: signed-out\ndata:\n\n"]
