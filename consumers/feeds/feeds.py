"""Reads of feeds at a cursor: from memory where it reaches, else from the log, and waiting for what comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import count

from consumers.feeds.entry import Entry
from consumers.feeds.history import Bounds, History
from consumers.feeds.reader import TailReader
from consumers.feeds.tail import Tail
from schemas.topics import Topics
from services.runtime.clock import Clock
from services.runtime.errors import FieldProblem, InvalidError, KafkaUnavailableError
from services.runtime.kafka.port import Kafka, Record
from services.runtime.settings import FeedsSettings

OPEN_S = 5.0


class Feeds:
    """All feeds of this process. Lives in one event loop; the tail reader's thread hands over to it."""

    def __init__(
        self,
        kafka: Kafka,
        topics: Topics,
        render: Callable[[Record], Entry],
        settings: FeedsSettings,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        render_at_once: Callable[[Record], Entry] | None = None,
    ) -> None:
        """``render_at_once`` waits for no schema: it serves the one reader of all feeds' ends."""
        self.history = History(kafka, topics, render, settings.history_readers)
        self._settings = settings
        self._clock = clock
        self._tails: dict[str, Tail] = {}
        self._opening: dict[str, asyncio.Event] = {}
        self._wanted: dict[str, int] = {}
        self._numbers = count()
        self.reader = TailReader(
            kafka,
            topics,
            render_at_once or render,
            clock,
            lambda agency, at: _in_loop(loop, lambda: self._opened(agency, at)),
            lambda arrived: _in_loop(loop, lambda: self._arrived(arrived)),
        )

    async def read(self, agency: str, after: int, limit: int, wait_s: float) -> list[Entry]:
        """Return up to ``limit`` events beyond a cursor, waiting up to ``wait_s`` seconds for the first.

        Raises GoneError (before what is kept), InvalidError (beyond the end) or UnavailableError.
        """
        tail = await self._tail(agency)
        if after + 1 < tail.start:
            found = await self.history.read(agency, after + 1, tail.start, limit)
            if found:
                return found
            after = tail.start - 1
        elif after >= tail.following:
            await self._check_end(agency, after)
        deadline = self._clock.monotonic() + wait_s
        while True:
            if not self.reader.working:
                raise KafkaUnavailableError("Kafka 暂时无法读取 (the feed can't be read now)")
            tail.read_at = self._clock.monotonic()
            left = deadline - tail.read_at
            found = tail.after(after, limit)
            if found or left <= 0:
                return found
            await tail.grow(left)

    async def _check_end(self, agency: str, after: int) -> None:
        kept: Bounds = await self.history.bounds(agency)
        if after >= kept.end:
            detail = f"游标 {after} 超出队列末尾 {kept.end - 1} (the cursor is beyond the end)"
            raise InvalidError([FieldProblem("/after", detail)])

    async def _tail(self, agency: str) -> Tail:
        """Return a feed's tail, opened first if nobody has read it lately."""
        while (tail := self._tails.get(agency)) is None:
            opening = self._opening.setdefault(agency, asyncio.Event())
            if agency not in self._wanted:
                self._wanted[agency] = next(self._numbers)
                self.reader.want(self._wanted)
            try:
                await asyncio.wait_for(opening.wait(), OPEN_S)
            except TimeoutError as error:
                raise KafkaUnavailableError("Kafka 暂时无法读取 (the feed can't be read now)") from error
        return tail

    def _opened(self, agency: str, at: int) -> None:
        opening = self._opening.pop(agency, None)
        if opening is not None:
            limits = self._settings
            self._tails[agency] = Tail(at, limits.tail_events, limits.tail_bytes, self._clock.monotonic())
            opening.set()

    def _arrived(self, arrived: Mapping[str, Sequence[Entry]]) -> None:
        for agency, entries in arrived.items():
            if agency in self._tails:
                self._tails[agency].append(entries)

    def let_idle_go(self) -> None:
        """Forget feeds that nobody has read for a while."""
        horizon = self._clock.monotonic() - self._settings.idle_s
        idle = [agency for agency, tail in self._tails.items() if tail.read_at < horizon]
        for agency in idle:
            del self._tails[agency], self._wanted[agency]
        if idle:
            self.reader.want(self._wanted)

    def held(self) -> tuple[int, int]:
        """Return how many feeds are in memory, and how many bytes of them."""
        return len(self._tails), sum(tail.bytes for tail in self._tails.values())


def _in_loop(loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(work)
