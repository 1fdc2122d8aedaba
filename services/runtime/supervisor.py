"""Runs child processes: each in a group of its own, restarted when it dies, all ended together, none left behind.

A process manager that stops everything when one process ends does not fit here: a killed router must come back while
the gateway goes on accepting.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

TERM_S = 12.0
WATCH_S = 0.1
BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0)
STEADY_S = 30.0
_PR_SET_PDEATHSIG = 1

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. ``user`` is whom to run it as; ``stop_signal`` asks it to end."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    cwd: Path | None = None


class Child:
    """A running program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.restarts = 0
        self._start()

    def _start(self) -> None:
        self.program.log.parent.mkdir(parents=True, exist_ok=True)
        with self.program.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.program.command,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self.program.environment},
                user=self.program.user,
                cwd=self.program.cwd,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509  (one prctl call; no lock can be held in it)
            )
        self.started = time.monotonic()

    def restart(self) -> None:
        """Start it again."""
        self.restarts += 1
        self._start()

    def ask(self) -> None:
        """Ask it to end."""
        if self.process.poll() is None:
            self.process.send_signal(self.program.stop_signal)

    def end(self, within_s: float) -> None:
        """Wait for its end; what is left of its group is killed."""
        try:
            self.process.wait(max(0.0, within_s))
        except subprocess.TimeoutExpired:
            log.warning("child_overran", name=self.program.name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Supervisor:
    """Keeps programs running until it is stopped."""

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def start(self, program: Program) -> Child:
        """Start a program."""
        with self._lock:
            if self._stopping.is_set():
                raise RuntimeError("the supervisor is stopping")
            child = Child(program)
            self._children.append(child)
            return child

    def watch(self, stop: threading.Event) -> None:
        """Restart what dies until ``stop``."""
        while not stop.wait(WATCH_S):
            with self._lock:
                for child in self._children:
                    self._revive(child)

    @staticmethod
    def _revive(child: Child) -> None:
        status = child.process.poll()
        if status is None:
            return
        lived = time.monotonic() - child.started
        if lived > STEADY_S:
            child.restarts = 0
        if lived < BACKOFF_S[min(child.restarts, len(BACKOFF_S) - 1)]:
            return
        log.warning("child_restarted", name=child.program.name, status=status, log=str(child.program.log))
        child.restart()

    def stop(self) -> None:
        """End all programs, the last started first; those started together are asked together."""
        self._stopping.set()
        with self._lock:
            children, self._children = self._children[::-1], []
        servers = [child for child in children if child.program.name in {"kafka", "postgres"}]
        for group in ([child for child in children if child not in servers], servers):
            for child in group:
                child.ask()
            deadline = time.monotonic() + TERM_S
            for child in group:
                child.end(deadline - time.monotonic())


def _die_with_parent() -> None:
    """Have the kernel end this child when its parent is gone, however that ended (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
