"""Going on through outages: what is told, what is returned, and when it ends."""

from __future__ import annotations

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
