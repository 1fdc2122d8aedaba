"""Asks of agencies' cursors from the event loop, so that none waits for another's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from services.delivery.cursors import Cursors

THREADS = 8

P = ParamSpec("P")
T = TypeVar("T")


class Asking:
    """A few threads of its own; an agency has at most one of them, however often it asks while its broker is slow."""

    def __init__(self, cursors: Cursors) -> None:
        self._cursors = cursors
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="cursors")
        self._turns: dict[str, asyncio.Lock] = {}

    async def get(self, agency: str) -> int:
        """Return the agency's cursor."""
        return await self._ask(self._cursors.get, agency)

    async def handed_over(self, agency: str) -> int:
        """Return the agency's cursor; raises HandoverError while a pusher holds the feed."""
        return await self._ask(self._cursors.handed_over, agency)

    async def check_free(self, agency: str) -> None:
        """Raise ConflictError while the agency's own clients are members of its group."""
        await self._ask(self._cursors.check_free, agency)

    async def move(self, agency: str, offset: int) -> None:
        """Let the agency's own group stand here; raises ConflictError while its clients are members."""
        await self._ask(self._cursors.move, agency, offset)

    async def _ask(self, ask: Callable[Concatenate[str, P], T], agency: str, *rest: P.args, **named: P.kwargs) -> T:
        async with self._turns.setdefault(agency, asyncio.Lock()):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, lambda: ask(agency, *rest, **named))

    def close(self) -> None:
        """Begin nothing more, and wait for nobody."""
        self._threads.shutdown(wait=False, cancel_futures=True)
