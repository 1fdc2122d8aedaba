"""Sends messages from a few threads, so that a dead mail server delays nobody but itself, and bundles what is many."""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from services.alerting.groups import Reason, Told
from services.alerting.messages import Notice, bundle
from services.alerting.ways import Way
from services.runtime.alerts import AlertKind

THREADS = 4
BUNDLED = 5
"""So many messages of one kind at once by one way become one."""
CLOSE_S = 3.0
"""How long the end of the process waits for a mail server: what it did not hear of comes again, under the same id."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Message:
    """A notice on its way, and what it tells of which group."""

    group: str
    way: Way
    reason: Reason
    notice: Notice
    told: Told


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a message; ``trouble`` is None when it went out."""

    message: Message
    trouble: str | None


class Dispatch:
    """Sends what it is given; what is under way is not sent again meanwhile."""

    def __init__(self, close_s: float = CLOSE_S) -> None:
        self._close_s = close_s
        self._waiting: queue.SimpleQueue[Sequence[Message] | None] = queue.SimpleQueue()
        self._under_way: set[tuple[str, str]] = set()
        self._ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()
        # Of no executor, for whose threads the end of the process would wait.
        self._threads = [threading.Thread(target=self._work, name=f"way-{n}", daemon=True) for n in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def is_under_way(self, group: str, way: str) -> bool:
        """Tell whether a message of this group is on its way to there."""
        return (group, way) in self._under_way

    def send(self, messages: Iterable[Message]) -> None:
        """Send these, bundled where they are many."""
        for held in _bundles(messages):
            self._under_way.update((one.group, one.way.name) for one in held)
            self._waiting.put(held)

    def ended(self) -> list[Ended]:
        """Return what has ended since."""
        found = []
        while not self._ended.empty():
            one = self._ended.get()
            self._under_way.discard((one.message.group, one.message.way.name))
            found.append(one)
        return found

    def close(self) -> None:
        """Begin nothing more, and wait a while for what has begun: who goes on sends the rest, under the same ids."""
        with suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()
        for _ in self._threads:
            self._waiting.put(None)
        deadline = time.monotonic() + self._close_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while (held := self._waiting.get()) is not None:
            self._attempt(held)

    def _attempt(self, held: Sequence[Message]) -> None:
        way = held[0].way
        notice = held[0].notice if len(held) == 1 else bundle([one.notice for one in held])
        trouble: str | None = "中断 (interrupted)"
        try:
            trouble = way.send(notice)
        finally:
            tell = log.info if trouble is None else log.warning
            tell("alert_sent" if trouble is None else "alert_unsent", way=way.name, title=notice.title, trouble=trouble)
            for one in held:
                self._ended.put(Ended(one, trouble))


def _bundles(messages: Iterable[Message]) -> list[Sequence[Message]]:
    """Put together what one way has of one kind and reason, where that is much. An agency's feed has its own only."""
    together: defaultdict[tuple[str, AlertKind, bool], list[Message]] = defaultdict(list)
    for one in messages:
        together[one.way.name, one.notice.kind, one.reason == "resolved"].append(one)
    found: list[Sequence[Message]] = []
    for held in together.values():
        found += [held] if len(held) >= BUNDLED else [[one] for one in held]
    return found


def failing(told: Iterable[Mapping[str, Told]], after: int) -> dict[str, Told]:
    """Return the ways by which sending fails again and again, each with its worst."""
    found: dict[str, Told] = {}
    for ways in told:
        for way, one in ways.items():
            if one.failures >= after and one.failures > found.get(way, Told()).failures:
                found[way] = one
    return found
