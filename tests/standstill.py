"""A server that hangs: it is stopped (SIGSTOP), takes connections and answers nobody, until it is let go on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest


@contextmanager
def standing_still(port: int) -> Iterator[None]:
    """Stop what listens at a port of this machine, with its children; a server elsewhere skips the test."""
    found = {one.pid for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.laddr.port == port}
    if not found - {None, os.getpid()}:
        pytest.skip(f"the server of port {port} is none of ours to stop")
    processes = [one for pid in found for one in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))]
    _send(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        _send(processes, signal.SIGCONT)


def _send(processes: list[psutil.Process], number: signal.Signals) -> None:
    for one in processes:
        with suppress(psutil.NoSuchProcess):
            one.send_signal(number)
