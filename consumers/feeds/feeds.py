"""Reads of feeds at a cursor: from memory where it reaches, else from the log, and waiting for what comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import count

import structlog

from consumers.feeds.entry import Entry
from consumers.feeds.history import Bounds, History
from consumers.feeds.reader import Opening, TailReader
from consumers.feeds.tail import Tail
from schemas.topics import Topics
from services.runtime.clock import Clock
from services.runtime.errors import FieldProblem, InvalidError, KafkaUnavailableError, UnavailableError
from services.runtime.kafka.port import Kafka, Record
from services.runtime.settings import FeedsSettings

log = structlog.get_logger()

OPEN_S = 5.0
OPENERS = 4
"""So many feeds are opened at once. One whose topic is away keeps its opener waiting, and nobody who reads."""
PUT_OFF_S = 2.0
"""For so long a feed that could not be opened is not tried again."""


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
        self._ends = History(kafka, topics, render, OPENERS)
        self._opening: dict[str, asyncio.Task[Tail]] = {}
        self._put_off: dict[str, tuple[float, str]] = {}
        self._wanted: dict[str, Opening] = {}
        self._numbers = count()
        self.reader = TailReader(
            kafka,
            topics,
            render_at_once or render,
            clock,
            lambda arrived: _in_loop(loop, lambda: self._arrived(arrived)),
            lambda openings: _in_loop(loop, lambda: self._remade(openings)),
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

    async def goes_on(self, agency: str, cursor: int) -> bool:
        """Tell whether anything stands beyond what was read: a page ends early where memory begins, and at 4 MB."""
        tail = await self._tail(agency)
        return cursor + 1 < tail.following and bool(await self.read(agency, cursor, 1, 0.0))

    async def reaches(self, agency: str, cursor: int) -> bool:
        """Tell whether a feed's log reaches to a cursor; raises UnavailableError."""
        if cursor <= (await self._tail(agency)).following:
            return True
        return cursor <= (await self.history.bounds(agency)).end

    async def _check_end(self, agency: str, after: int) -> None:
        kept: Bounds = await self.history.bounds(agency)
        if after >= kept.end:
            detail = (
                f"游标 {after} 超出队列末尾 {kept.end - 1}；不带 after 即接着回执读"
                " (beyond the end; without after it goes on behind your receipts)"
            )
            raise InvalidError([FieldProblem("/after", detail)])

    async def _tail(self, agency: str) -> Tail:
        """Return a feed's tail, opened first if nobody has read it lately; raises UnavailableError for this feed alone.

        Opening is shared by all who wait for it, and goes on when they give up.
        """
        tail = self._tails.get(agency)
        if tail is not None:
            return tail
        until, why = self._put_off.get(agency, (0.0, ""))
        if self._clock.monotonic() < until:
            raise KafkaUnavailableError(why)
        opening = self._opening.get(agency)
        if opening is None:
            opening = self._opening[agency] = asyncio.create_task(self._open(agency))
            opening.add_done_callback(lambda done: self._opened(agency, done))
        try:
            return await asyncio.wait_for(asyncio.shield(opening), OPEN_S)
        except TimeoutError as error:
            raise KafkaUnavailableError(_not_opened(agency, f"{OPEN_S:g} s")) from error

    async def _open(self, agency: str) -> Tail:
        try:
            at = (await self._ends.bounds(agency)).end
        except UnavailableError as error:
            raise KafkaUnavailableError(_not_opened(agency, str(error))) from error
        limits = self._settings
        tail = self._tails[agency] = Tail(at, limits.tail_events, limits.tail_bytes, self._clock.monotonic())
        self._wanted[agency] = Opening(agency, next(self._numbers), at)
        self.reader.want(self._wanted.values())
        return tail

    def _opened(self, agency: str, opening: asyncio.Task[Tail]) -> None:
        """Forget an opening that is over; one that failed is put off, so that its next readers are answered at once."""
        del self._opening[agency]
        self._put_off.pop(agency, None)
        if not opening.cancelled() and (error := opening.exception()) is not None:
            self._put_off[agency] = self._clock.monotonic() + PUT_OFF_S, str(error)

    def _arrived(self, arrived: Mapping[Opening, Sequence[Entry]]) -> None:
        for opening, entries in arrived.items():
            if self._wanted.get(opening.agency) == opening:
                self._tails[opening.agency].append(entries)

    def _remade(self, openings: Collection[Opening]) -> None:
        """Forget what was read of a log that there is no more: whoever reads next opens the new one."""
        for opening in openings:
            if self._wanted.get(opening.agency) == opening:
                log.warning("feed_made_anew", agency=opening.agency)
                del self._tails[opening.agency], self._wanted[opening.agency]
        self.reader.want(self._wanted.values())

    def let_idle_go(self) -> None:
        """Forget feeds that nobody has read for a while."""
        horizon = self._clock.monotonic() - self._settings.idle_s
        idle = [agency for agency, tail in self._tails.items() if tail.read_at < horizon]
        for agency in idle:
            del self._tails[agency], self._wanted[agency]
        if idle:
            self.reader.want(self._wanted.values())

    def held(self) -> tuple[int, int]:
        """Return how many feeds are in memory, and how many bytes of them."""
        return len(self._tails), sum(tail.bytes for tail in self._tails.values())

    def close(self) -> None:
        """End the readers of older events, and the openers."""
        self.history.close()
        self._ends.close()


def _in_loop(loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(work)


def _not_opened(agency: str, why: str) -> str:
    return f"{agency} 的队列暂时打不开：{why}；请稍后再试，仍不行请联系平台 (this feed can't be opened now; try again)"
