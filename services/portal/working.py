"""Long work that people ask for: a few at once, bounded in number and time, told how far it is, results kept a while.

What is asked for is the asker's own: nobody else sees that it is under way, or what came of it.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from services.portal.progress import Progress
from services.runtime.clock import Clock
from services.runtime.errors import HongyanError, NotFoundError, UnavailableError

AT_ONCE = 2
MOST_WAITING = 8
MOST_OF_ONE = 2
KEPT = 30
"""So many jobs are remembered; of one that is older the result is gone."""
LIMIT_S = 300.0
"""A job that takes longer is told to end."""

JobState = Literal["waiting", "running", "done", "failed"]


class BusyError(UnavailableError):
    """正在进行的较多，请稍后再试 (too much is under way; try again later)"""


@dataclass(slots=True)
class Job:
    """Something long, called by its kind and what it is about. ``then`` is where its result is shown."""

    id: str
    owner: str
    kind: str
    about: str
    then: str
    asked_at: float
    progress: Progress
    began_at: float | None = None
    ended_at: float | None = None
    result: Any = None
    error: HongyanError | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def state(self) -> JobState:
        """Return how it stands."""
        if self.ended.is_set():
            return "done" if self.error is None else "failed"
        return "waiting" if self.began_at is None else "running"

    def outcome(self) -> Any:  # noqa: ANN401  (each job has its own kind of result)
        """Return what came of it; raises the error that it ended with."""
        if self.error is not None:
            raise self.error
        return self.result


class Work:
    """Does it, in threads of its own."""

    def __init__(self, clock: Clock, stop: threading.Event, at_once: int = AT_ONCE, limit_s: float = LIMIT_S) -> None:
        self._clock = clock
        self._stop = stop
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._turn = threading.Semaphore(at_once)
        self._jobs: dict[str, Job] = {}

    def start(self, owner: str, kind: str, about: str, then: str, run: Callable[[Progress], Any]) -> Job:
        """Begin; ``{job}`` in ``then`` becomes the job's id. Raises BusyError."""
        identity = secrets.token_urlsafe(9)
        job = Job(identity, owner, kind, about, then.format(job=identity), self._clock.monotonic(), Progress())
        job.progress = Progress(lambda: self._over(job))
        with self._lock:
            open_ = [one for one in self._jobs.values() if not one.ended.is_set()]
            if len(open_) >= MOST_WAITING or sum(one.owner == owner for one in open_) >= MOST_OF_ONE:
                raise BusyError
            self._jobs[identity] = job
            ended = [one for one in self._jobs.values() if one.ended.is_set()]
            for old in ended[: max(0, len(self._jobs) - KEPT)]:
                del self._jobs[old.id]
        threading.Thread(target=self._do, args=(job, run), daemon=True, name=f"work-{identity}").start()
        return job

    def of(self, owner: str, identity: str) -> Job:
        """Return somebody's own job; raises NotFoundError."""
        job = self._jobs.get(identity)
        if job is None or job.owner != owner:
            raise NotFoundError("没有这项工作，或结果已不再保存；请重新开始 (no such work, or it is no longer kept)")
        return job

    def seconds(self, job: Job) -> float:
        """Return for how long a job has been under way."""
        until = self._clock.monotonic() if job.ended_at is None else job.ended_at
        return until - (job.asked_at if job.began_at is None else job.began_at)

    def _over(self, job: Job) -> bool:
        return self._stop.is_set() or (job.began_at is not None and self.seconds(job) > self._limit_s)

    def _do(self, job: Job, run: Callable[[Progress], Any]) -> None:
        with self._turn:
            job.began_at = self._clock.monotonic()
            try:
                job.result = run(job.progress)
            except HongyanError as error:
                job.error = error
            finally:
                if job.result is None and job.error is None:
                    job.error = HongyanError("没有做成，原因在日志里 (an error of ours; it is in the log)")
                job.ended_at = self._clock.monotonic()
                job.ended.set()


def shown(work: Work, job: Job) -> Mapping[str, Any]:
    """Return what a page says of a job."""
    return {
        "id": job.id,
        "kind": job.kind,
        "about": job.about,
        "state": job.state,
        "percent": job.progress.percent,
        "done": job.progress.done,
        "seconds": round(work.seconds(job)),
        "then": job.then,
    }
