"""Reads older events from the log, by a few readers that all agencies share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Concatenate, ParamSpec, TypeVar

import structlog

from consumers.feeds.entry import Entry
from schemas.topics import Topics
from services.runtime.errors import GoneError, KafkaUnavailableError, UnavailableError
from services.runtime.kafka.port import Consumer, Kafka, Partition, Record

READ_S = 10.0
POLL_S = 0.2
SLOW_S = 1.0
BATCH_BYTES = 4 * 1024 * 1024

P = ParamSpec("P")
T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Bounds:
    """What of a feed is kept: the first offset, and the one after the last."""

    earliest: int
    end: int


class History:
    """Reads of feeds at any place; at most ``readers`` at once, the others wait for their turn.

    Of one feed at most half of them: whoever reads all of its past leaves the others their turns. The feeds that were
    slow last time have half of them between them: whoever is quick waits for none whose broker is away.
    """

    def __init__(
        self,
        kafka: Kafka,
        topics: Topics,
        render: Callable[[Record], Entry],
        readers: int,
        place_of: Callable[[str], Partition] | None = None,
        slow_s: float = SLOW_S,
    ) -> None:
        """``place_of`` names another place of an agency's that is read instead of its feed."""
        self._kafka = kafka
        self._place_of = place_of or (lambda agency: Partition(topics.feed(agency), 0))
        self._render = render
        self._threads = ThreadPoolExecutor(readers, thread_name_prefix="history")
        self._free: SimpleQueue[Consumer] = SimpleQueue()
        self._of_one = max(1, readers // 2)
        self._turns: dict[Partition, asyncio.Semaphore] = {}
        self._slow_s = slow_s
        self._slow: set[Partition] = set()
        self._slow_turns = asyncio.Semaphore(self._of_one)

    async def bounds(self, agency: str) -> Bounds:
        """Return what is kept of a feed."""
        return await self._run(_bounds, self._place_of(agency))

    async def at(self, agency: str, timestamp_ms: int) -> int:
        """Return the first offset that is not older than a time, or the end."""
        return await self._run(_at, self._place_of(agency), timestamp_ms)

    async def read(self, agency: str, start: int, stop: int | None, limit: int) -> list[Entry]:
        """Return the events from ``start`` on, below ``stop`` (None: the end), at most ``limit`` or some MB.

        Raises GoneError that names the earliest cursor when ``start`` is before what is kept.
        """
        return await self._run(self._read, self._place_of(agency), start, stop, limit)

    async def follow(self, agency: str, start: int, take: Callable[[Record], None], within_s: float) -> tuple[int, int]:
        """Give a feed's records from ``start`` on to ``take``, for so long at most.

        Returns from where on it was not read, and where the feed ended: before ``start`` where it was made anew.
        """
        return await self._run(self._follow, self._place_of(agency), start, take, within_s)

    def _follow(
        self, consumer: Consumer, feed: Partition, start: int, take: Callable[[Record], None], within_s: float
    ) -> tuple[int, int]:
        kept, deadline = _bounds(consumer, feed), time.monotonic() + within_s
        start = max(start, kept.earliest)
        consumer.seek(feed, start)
        while consumer.position(feed) < kept.end and time.monotonic() < deadline:
            for record in consumer.poll(POLL_S, 2000).get(feed, ()):
                take(record)
        read_to = consumer.position(feed)
        return read_to, kept.end if start > kept.end else max(read_to, kept.end)

    def _read(self, consumer: Consumer, feed: Partition, start: int, stop: int | None, limit: int) -> list[Entry]:
        kept = _bounds(consumer, feed)
        if start < kept.earliest:
            raise GoneError(kept.earliest)
        stop = kept.end if stop is None else min(stop, kept.end)
        found: list[Entry] = []
        size, deadline = 0, time.monotonic() + READ_S
        consumer.seek(feed, start)
        while len(found) < limit and size < BATCH_BYTES and consumer.position(feed) < stop:
            for record in consumer.poll(POLL_S, min(limit - len(found), 2000)).get(feed, ()):
                if record.offset >= stop:
                    return found
                found.append(self._render(record))
                size += found[-1].size
            if time.monotonic() > deadline:
                raise KafkaUnavailableError("the feed could not be read in time")
        return found

    async def _run(
        self, work: Callable[Concatenate[Consumer, Partition, P], T], feed: Partition, *rest: P.args, **named: P.kwargs
    ) -> T:
        def run() -> T:
            began, consumer = time.monotonic(), self._take()
            try:
                consumer.assign([feed])
                result = work(consumer, feed, *rest, **named)
            except UnavailableError:
                _close(consumer)
                raise
            except BaseException:
                self._free.put(consumer)
                raise
            finally:
                self._note(feed, time.monotonic() - began)
            self._free.put(consumer)
            return result

        held = await self._turn(feed)
        answer = self._threads.submit(run)
        reading = asyncio.wrap_future(answer)
        # Whoever gives up leaves the reader at work: the turn ends with the work.
        reading.add_done_callback(lambda _: held.close())
        try:
            return await asyncio.shield(reading)
        finally:
            answer.cancel()  # if it waits for a reader yet

    async def _turn(self, feed: Partition) -> ExitStack:
        """Wait for a turn; closing what is returned ends it."""
        with ExitStack() as held:
            await _enter(self._turns.setdefault(feed, asyncio.Semaphore(self._of_one)), held)
            if feed in self._slow:
                await _enter(self._slow_turns, held)
            return held.pop_all()

    def _note(self, feed: Partition, took_s: float) -> None:
        if took_s >= self._slow_s:
            self._slow.add(feed)
        else:
            self._slow.discard(feed)

    def _take(self) -> Consumer:
        try:
            return self._free.get_nowait()
        except Empty:
            return self._kafka.consumer(None, client_id="feeds-history")

    def close(self) -> None:
        """End the readers."""
        self._threads.shutdown()
        while not self._free.empty():
            _close(self._free.get())


async def _enter(turns: asyncio.Semaphore, held: ExitStack) -> None:
    await turns.acquire()
    held.callback(turns.release)


def _bounds(consumer: Consumer, feed: Partition) -> Bounds:
    return Bounds(consumer.beginning_offsets([feed])[feed], consumer.end_offsets([feed])[feed])


def _at(consumer: Consumer, feed: Partition, timestamp_ms: int) -> int:
    return consumer.offsets_at([feed], timestamp_ms).get(feed, consumer.end_offsets([feed])[feed])


def _close(consumer: Consumer) -> None:
    try:
        consumer.close()
    except UnavailableError as error:
        log.debug("history_close_failed", error=str(error))
