"""Sending from threads of their own, of which the process waits for none when it ends."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

from consumers.alerter.dispatch import THREADS, Dispatch, Message
from services.alerting.groups import take, telling
from services.alerting.messages import Notice, notice_of
from services.runtime.alerts import Alert, AlertKind

NOW = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)


class Stuck:
    """A mail server that says nothing until it is let go on."""

    name = "mail:stuck"

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.go_on = threading.Event()

    def send(self, _notice: Notice) -> str | None:
        """Wait."""
        self.began.release()
        self.go_on.wait(60)
        return None


def test_the_end_waits_for_no_mail_server_and_begins_nothing_more() -> None:
    """What had not begun is not sent: whoever goes on sends it."""
    way, dispatch = Stuck(), Dispatch(close_s=0.1)
    for kind in list(AlertKind)[: THREADS + 3]:
        group = take(None, Alert(kind, "market", NOW.isoformat(), "detail"), 1, NOW, 60)
        assert group is not None
        notice = notice_of(group, way.name, "raised")
        dispatch.send([Message(group.name, way, "raised", notice, telling(group, way.name, "raised"))])
    assert all(way.began.acquire(timeout=10) for _ in range(THREADS))
    dispatch.close()
    assert dispatch.ended() == []
    way.go_on.set()
    assert not way.began.acquire(timeout=0.3)
