"""What one gateway takes on: so many events a second from a department, so many requests at once from all."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.runtime.clock import Clock
from services.runtime.errors import HongyanError, UnavailableError
from services.runtime.settings import GatewaySettings
from services.subscriptions.control import Department


class TooManyEventsError(HongyanError):
    """The department sends faster than it may; ``retry_after_s`` says when there is room again."""

    retriable = True

    def __init__(self, department: str, rate_per_s: float, wait_s: float) -> None:
        self.retry_after_s = max(1, math.ceil(wait_s))
        super().__init__(
            f"{department} 超过每秒 {rate_per_s:g} 个事件，请 {self.retry_after_s} 秒后再发 (slower, please)"
        )


class BusyError(UnavailableError):
    """网关正忙：Kafka 应答慢，排队已满，请稍后以同一 id 重发 (busy; nothing was taken, send again with the same ids)"""


@dataclass(slots=True)
class Bucket:
    """A token bucket (令牌桶): ``burst`` events at once, then ``rate_per_s``. State; what it holds is in events.

    What a request turns out to hold beyond what was taken for it may be owed: the next one waits until it is paid for.
    So a batch larger than the burst is slow, not impossible.
    """

    rate_per_s: float
    burst: float
    tokens: float
    at: float

    def take(self, events: int, now: float) -> float:
        """Take room for so many events and return 0, or return the seconds to wait for it and take nothing."""
        self._fill(now)
        missing = min(events, self.burst) - self.tokens
        if missing > 0:
            return missing / self.rate_per_s
        self.tokens -= events
        return 0.0

    def owe(self, events: int, now: float) -> None:
        """Take room for so many events, whether it is there or not."""
        self._fill(now)
        self.tokens -= events

    def _fill(self, now: float) -> None:
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate_per_s)
        self.at = now


class RateLimits:
    """A bucket for each department, by its own limits or the gateway's."""

    def __init__(self, settings: GatewaySettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}

    def take(self, department: Department, events: int) -> None:
        """Count events against a department's limit; raises TooManyEventsError, and then nothing is counted."""
        now = self._clock.monotonic()
        bucket = self._bucket(department, now)
        wait_s = bucket.take(events, now)
        if wait_s:
            raise TooManyEventsError(department.name, bucket.rate_per_s, wait_s)

    def owe(self, department: Department, events: int) -> None:
        """Count events of a request that was let in, whether there is room for them or not."""
        now = self._clock.monotonic()
        self._bucket(department, now).owe(events, now)

    def _bucket(self, department: Department, now: float) -> Bucket:
        rate = department.rate_per_s or self._settings.rate_per_s
        burst = float(department.burst or self._settings.burst)
        bucket = self._buckets.get(department.id)
        if bucket is None or (bucket.rate_per_s, bucket.burst) != (rate, burst):
            bucket = self._buckets[department.id] = Bucket(rate, burst, burst, now)
        return bucket


class Room:
    """Bounds what is under way: so many requests ``in_flight``, so many ``waiting`` for their turn.

    While Kafka is slow both fill, and whoever comes then is told at once: memory does not grow with the queue.
    """

    def __init__(self, in_flight: int, waiting: int, patience_s: float) -> None:
        self._turns = asyncio.Semaphore(in_flight)
        self._most = in_flight + waiting
        self._patience_s = patience_s
        self.admitted = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn and hold it; raises BusyError when too many wait, or when the turn does not come in time."""
        if self.admitted >= self._most:
            raise BusyError
        self.admitted += 1
        try:
            try:
                await asyncio.wait_for(self._turns.acquire(), self._patience_s)
            except TimeoutError as error:
                raise BusyError from error
            try:
                yield
            finally:
                self._turns.release()
        finally:
            self.admitted -= 1
