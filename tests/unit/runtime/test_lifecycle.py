"""Going on through outages: what is told, what is returned, and when it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest
from structlog.testing import capture_logs

from services.runtime.errors import KafkaUnavailableError
from services.runtime.lifecycle import outlast


def test_an_outage_is_told_once_and_outlasted() -> None:
    """Three failed attempts give one warning; the fourth one's result comes back."""
    attempts = iter([KafkaUnavailableError("a"), KafkaUnavailableError("b"), KafkaUnavailableError("c")])
    noted: list[None] = []

    def attempt() -> str:
        for error in attempts:
            raise error
        return "done"

    with capture_logs() as lines:
        result = outlast("test", attempt, threading.Event(), on_outage=lambda: noted.append(None), retry_s=0)
    assert result == "done"
    assert [line["log_level"] for line in lines] == ["warning", "debug", "debug"]
    assert len(noted) == 3


def test_a_stop_ends_it_between_attempts() -> None:
    """Nothing is attempted once the process is asked to stop."""
    stop = threading.Event()

    def attempt() -> str:
        stop.set()
        raise KafkaUnavailableError("away")

    assert outlast("test", attempt, stop, retry_s=60) is None


def test_our_own_mistakes_are_not_outlasted() -> None:
    """An error that waiting does not mend ends the process at once."""
    with pytest.raises(ZeroDivisionError):
        outlast("test", lambda: 1 // 0, threading.Event())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_interrupts_the_wait_itself_stops_the_process(number: signal.Signals) -> None:
    """It comes while the waiting thread holds the event's lock, which a handler can't wait for."""
    program = (
        "import os, signal\n"
        "from services.runtime.lifecycle import stop_event\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # the tests themselves may be run under nohup
        "stop = stop_event()\n"
        f"with stop._cond:\n    os.kill(os.getpid(), {number:d})\n"
        "stop.wait()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=30, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_process_that_does_not_end_in_time_is_ended_and_says_so() -> None:
    """A server that it waits for is away: its grace is its limit, however often it is asked."""
    program = (
        "import os, threading\n"
        "from services.runtime.lifecycle import stop_event\n"
        "stop_event(grace_s=0.1)\n"
        "for _ in range(3):\n    os.kill(os.getpid(), 15)\n"
        "threading.Event().wait()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=30, capture_output=True)
    assert done.returncode == 1
    assert b"stop_overran" in done.stdout
