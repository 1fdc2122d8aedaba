"""Long work: bounded in number and time, told to its asker alone, ended when it takes too long."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from services.portal.progress import Progress
from services.portal.working import KEPT, MOST_OF_ONE, MOST_WAITING, BusyError, Work
from services.runtime.errors import NotFoundError, TookTooLongError
from tests.conditions import eventually
from tests.fakes.virtual_time import VirtualClock


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What blocked work waits for; it is opened at the end, so that no thread is left."""
    found = threading.Event()
    yield found
    found.set()


def test_its_result_and_its_error_are_its_askers() -> None:
    """Nobody else finds it; an error of ours is raised where the result would be shown."""
    work = Work(VirtualClock(), threading.Event())
    good = work.start("li", "explain", "x", "/x/{job}", lambda _: 42)
    assert good.ended.wait(5)
    assert (good.then, good.state, good.outcome()) == (f"/x/{good.id}", "done", 42)
    assert work.of("li", good.id) is good
    for asker, identity in (("wang", good.id), ("li", "nothing")):
        with pytest.raises(NotFoundError):
            work.of(asker, identity)

    def fail(_: Progress) -> None:
        raise TookTooLongError

    bad = work.start("li", "explain", "x", "/x/{job}", fail)
    assert bad.ended.wait(5)
    assert bad.state == "failed"
    with pytest.raises(TookTooLongError):
        bad.outcome()


def test_a_few_run_at_once_and_more_than_that_is_refused(gate: threading.Event) -> None:
    """One asker has two under way at most, all of them together eight; two run, the others wait their turn."""
    work = Work(VirtualClock(), threading.Event(), at_once=2)
    jobs = []
    for number in range(MOST_WAITING):
        jobs.append(work.start(f"p{number // MOST_OF_ONE}", "trial", "", "/", lambda _: gate.wait(10)))
        if number % MOST_OF_ONE == MOST_OF_ONE - 1:
            with pytest.raises(BusyError):
                work.start(f"p{number // MOST_OF_ONE}", "trial", "", "/", lambda _: 1)
    with pytest.raises(BusyError):
        work.start("another", "trial", "", "/", lambda _: 1)
    eventually(lambda: sum(one.state == "running" for one in jobs) == 2)
    assert sum(one.state == "waiting" for one in jobs) == MOST_WAITING - 2
    gate.set()
    for one in jobs:
        assert one.ended.wait(5)


@pytest.mark.parametrize("why", ["time", "end"])
def test_work_that_takes_too_long_is_told_to_end(why: str) -> None:
    """By its progress, which it asks now and then; so is all of it when the process ends."""
    clock, stop, begun, go_on = VirtualClock(), threading.Event(), threading.Event(), threading.Event()
    work = Work(clock, stop, limit_s=10)

    def run(progress: Progress) -> str:
        begun.set()
        go_on.wait(5)
        return "went on" if all(progress.step() for _ in range(1000)) else "ended"

    job = work.start("li", "trial", "", "/", run)
    assert begun.wait(5)
    if why == "time":
        clock.seconds += 11
    else:
        stop.set()
    go_on.set()
    assert job.ended.wait(5)
    assert job.outcome() == "ended"


def test_old_results_are_forgotten() -> None:
    """So many are kept, the newest."""
    work = Work(VirtualClock(), threading.Event())
    jobs = []
    for _ in range(KEPT + 3):
        jobs.append(work.start("li", "explain", "", "/", lambda _: "x"))
        assert jobs[-1].ended.wait(5)
    assert work.of("li", jobs[-1].id)
    with pytest.raises(NotFoundError):
        work.of("li", jobs[0].id)


def test_progress_knows_its_share() -> None:
    """Nobody knows before it is told how much there is; more than all is all."""
    progress = Progress()
    assert progress.percent is None
    progress.sized(4)
    assert [(progress.step(), progress.percent) for _ in range(5)][-1] == (True, 100)
