"""Asks of agencies' cursors from the event loop, so that none waits for another's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from consumers.feeds.lanes import Lanes
from services.delivery.cursors import Cursors
from services.runtime.errors import UnavailableError
from services.runtime.kafka.port import Committed

ASK_S = 5.0
"""An answer that takes longer is not waited for: who asked comes again."""
SLOW_S = 1.0

P = ParamSpec("P")
T = TypeVar("T")


class Asking:
    """An agency has at most one question under way, however often it asks while its broker is slow.

    All raise UnavailableError where there is no answer in time. What was begun goes on: a cursor may yet move.
    """

    def __init__(self, cursors: Cursors, ask_s: float = ASK_S) -> None:
        self._cursors = cursors
        self._ask_s = ask_s
        self._lanes = Lanes("cursors", SLOW_S)
        self._turns: dict[str, asyncio.Lock] = {}

    async def get(self, agency: str) -> int:
        """Return the agency's cursor."""
        return await self._ask(self._cursors.get, agency)

    async def handed_over(self, agency: str) -> int:
        """Return the agency's cursor; raises HandoverError while a pusher holds the feed."""
        return await self._ask(self._cursors.handed_over, agency)

    async def both(self, agency: str) -> tuple[Committed, Committed]:
        """Return the pusher's cursor and the agency's own, each with its note; raises HandoverError."""
        return await self._ask(self._cursors.both, agency)

    async def put(self, agency: str, cursor: Committed) -> None:
        """Have the agency's own group say this; raises ConflictError while its clients are members."""
        await self._ask(self._cursors.put, agency, cursor)

    async def check_free(self, agency: str) -> None:
        """Raise ConflictError while the agency's own clients are members of its group."""
        await self._ask(self._cursors.check_free, agency)

    async def move(self, agency: str, offset: int) -> None:
        """Let the agency's own group stand here; raises ConflictError while its clients are members."""
        await self._ask(self._cursors.move, agency, offset)

    async def _ask(self, ask: Callable[Concatenate[str, P], T], agency: str, *rest: P.args, **named: P.kwargs) -> T:
        turn, loop = self._turns.setdefault(agency, asyncio.Lock()), asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._ask_s):
                async with turn:
                    answer = self._lanes.begin(agency, lambda: ask(agency, *rest, **named))
                    try:
                        return await asyncio.shield(asyncio.wrap_future(answer, loop=loop))
                    finally:
                        answer.cancel()  # if it waits for a thread yet
        except TimeoutError as error:
            raise UnavailableError(
                "Kafka 没有及时答复，请稍候再来 (Kafka did not answer in time; come again)"
            ) from error

    def close(self) -> None:
        """Begin nothing more, and wait for nobody."""
        self._lanes.close()
