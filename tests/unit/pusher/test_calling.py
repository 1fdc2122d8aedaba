"""Calls from the Kafka thread into the event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from consumers.pusher.calling import LoopBusyError, LoopCalls
from services.runtime.errors import UnavailableError


def test_a_loop_that_is_busy_is_an_outage_to_wait_for_and_calls_keep_their_order() -> None:
    """The process must not end for it; what was asked for is done once the loop is free, in order."""
    loop, free, done = asyncio.new_event_loop(), threading.Event(), list[int]()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    loop.call_soon_threadsafe(free.wait)
    with pytest.raises(LoopBusyError) as raised:
        LoopCalls(loop, 0.05)(done.append, 1)
    assert isinstance(raised.value, UnavailableError)
    free.set()
    LoopCalls(loop, 10.0)(done.append, 2)
    assert done == [1, 2]
    with pytest.raises(TimeoutError):
        LoopCalls(loop, 10.0)(_time_out)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def _time_out() -> None:
    raise TimeoutError
