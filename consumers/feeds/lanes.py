"""Threads on which something is asked or done for each of many agencies, so that those of a slow broker stay apart."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from services.runtime.clock import SystemClock
from services.runtime.errors import UnavailableError

THREADS = 64
SLOW = 8
"""So many of the threads may be taken by agencies whose last question took too long."""

T = TypeVar("T")


class Lanes:
    """An agency has one thread at most; who was slow last time shares a few with all others who were."""

    def __init__(self, name: str, slow_s: float) -> None:
        self._slow_s = slow_s
        self._clock = SystemClock()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._began: dict[str, float | None] = {}
        self._slow: set[str] = set()

    def under_way(self) -> int:
        """Return for how many agencies something is under way."""
        return len(self._began)

    def begin(self, agency: str, ask: Callable[[], T]) -> Future[T]:
        """Begin; raises UnavailableError while something of this agency's is under way, or too much of slow ones."""
        with self._lock:
            if agency in self._began:
                raise UnavailableError("上一次还没有答复，请稍候再来 (what was asked before is not answered yet)")
            if agency in self._slow and len(self._slow_now()) >= SLOW:
                raise UnavailableError("Kafka 答复太慢，请稍候再来 (Kafka is slow to answer; come again)")
            self._began[agency] = None
        found = self._threads.submit(self._run, agency, ask)
        found.add_done_callback(lambda one: self._ended(agency) if one.cancelled() else None)
        return found

    def _run(self, agency: str, ask: Callable[[], T]) -> T:
        self._began[agency] = self._clock.monotonic()
        try:
            return ask()
        finally:
            self._ended(agency)  # before anybody has the answer, and asks the next

    def _ended(self, agency: str) -> None:
        with self._lock:
            began = self._began.pop(agency)
            if began is not None and self._clock.monotonic() - began >= self._slow_s:
                self._slow.add(agency)
            elif began is not None:
                self._slow.discard(agency)

    def _slow_now(self) -> list[str]:
        now = self._clock.monotonic()
        return [
            agency
            for agency, began in self._began.items()
            if agency in self._slow or (began is not None and now - began >= self._slow_s)
        ]

    def close(self) -> None:
        """Begin nothing more, and wait for nobody."""
        self._threads.shutdown(wait=False, cancel_futures=True)
