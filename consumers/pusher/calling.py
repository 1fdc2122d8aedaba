"""Calls from a thread into an event loop that lives in another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

from services.runtime.errors import UnavailableError

P = ParamSpec("P")
R = TypeVar("R")


class LoopBusyError(UnavailableError):
    """推送的事件循环没有应答 (the event loop does not answer); what was asked is done once it does"""


class LoopCalls:
    """Runs functions in the event loop, in the order in which they were asked for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit_s: float) -> None:
        self._loop = loop
        self._limit_s = limit_s

    def __call__(self, function: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """Run it and return its result; raises what it raises, or LoopBusyError when the loop is not free in time."""
        done: Future[R] = Future()

        def run() -> None:
            try:
                done.set_result(function(*arguments, **named))
            except BaseException as error:  # noqa: BLE001  (carried to the thread that asked)
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        try:
            return done.result(self._limit_s)
        except TimeoutError as error:
            if done.done():
                raise
            raise LoopBusyError from error
