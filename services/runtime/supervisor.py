"""Runs child processes: each in a group of its own, restarted when it dies, all ended together, none left behind.

A process manager that stops everything when one process ends does not fit here: a killed router must come back while
the gateway goes on accepting.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog

from services.runtime.settings import with_environment

TERM_S = 12.0
WATCH_S = 0.1
BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Least time between two starts of one program, by its number of restarts."""
STEADY_S = 30.0
_AUTOGROUP = Path("/proc/self/autogroup")
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. ``user`` is whom to run it as; ``stop_signal`` asks it to end; ``niceness`` as nice(1)."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    cwd: Path | None = None
    niceness: int = 0


class Child:
    """A program that is kept running. Only its supervisor's thread starts and ends it."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.restarts = 0
        """Restarts since it last ran steadily."""
        self.trouble = ""
        """Why it could not be started at all."""
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    @property
    def pid(self) -> int | None:
        """Return its process id, None before its first start."""
        return self._process.pid if self._process else None

    def keep(self) -> bool:
        """Start it when it is due, and tell whether it was; what dies young again and again waits longer."""
        lived = time.monotonic() - self._started
        if self._process is not None:
            if self._process.poll() is None:
                self.restarts = self.restarts if lived < STEADY_S else 0
                return False
            self._bury(self._process)
        if self._started:
            if lived < BACKOFF_S[min(self.restarts, len(BACKOFF_S) - 1)]:
                return False
            self.restarts += 1
        self._start()
        return True

    def _bury(self, process: subprocess.Popen[bytes]) -> None:
        log.warning("child_died", name=self.program.name, status=process.returncode, log=str(self.program.log))
        _kill_group(process.pid)
        self._process = None

    def _start(self) -> None:
        self._started = time.monotonic()
        user = pwd.getpwnam(self.program.user) if self.program.user else None
        try:
            self.program.log.parent.mkdir(parents=True, exist_ok=True)
            with self.program.log.open("ab") as output:
                self._process = subprocess.Popen(
                    self.program.command,
                    stdout=output,
                    stderr=output,
                    stdin=subprocess.DEVNULL,
                    env=with_environment(self.program.environment),
                    user=user.pw_uid if user else None,
                    group=user.pw_gid if user else None,
                    extra_groups=[] if user else None,
                    cwd=self.program.cwd,
                    start_new_session=True,
                    preexec_fn=partial(_begin, os.getpid(), self.program.niceness),  # noqa: PLW1509  (system calls, no lock)
                )
        except OSError as error:
            self._process, self.trouble = None, str(error)

    def ask(self) -> None:
        """Ask it to end."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(self.program.stop_signal)

    def end(self, within_s: float) -> None:
        """Wait for its end; what is left of its group is killed."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, within_s))
        except subprocess.TimeoutExpired:
            log.warning("child_overran", name=self.program.name)
        _kill_group(self._process.pid)
        self._process.wait()


class Supervisor:
    """Keeps programs running, from a thread of its own, until it is stopped.

    The kernel ends a child together with the thread that started it, so that one thread starts them all.
    ``on_start`` is called from it whenever a program was started or started again. A program that has not ended
    ``term_s`` seconds after it was asked is killed.
    """

    def __init__(self, on_start: Callable[[Child], None] | None = None, term_s: float = TERM_S) -> None:
        self._on_start = on_start
        self._term_s = term_s
        self._groups: list[list[Child]] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, *programs: Program) -> list[Child]:
        """Have programs started together, and later asked to end together."""
        children = [Child(program) for program in programs]
        with self._lock:
            if self._stopping.is_set():
                raise RuntimeError("the supervisor is stopping")
            self._groups.append(children)
        self._wake.set()
        return children

    def stop(self) -> None:
        """End all programs, those started last first, and wait for it; a second call does nothing."""
        with self._lock:
            self._stopping.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self._lock:
                children = [child for group in self._groups for child in group]
            for child in children:
                if child.keep() and self._on_start:
                    self._on_start(child)
            self._wake.wait(WATCH_S)
            self._wake.clear()
        for group in reversed(self._groups):
            _end(group, self._term_s)


def _end(children: Sequence[Child], within_s: float) -> None:
    for child in children:
        child.ask()
    deadline = time.monotonic() + within_s
    for child in children:
        child.end(deadline - time.monotonic())


def _kill_group(leader: int) -> None:
    """Kill what a program left running, or the program itself."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _begin(parent: int, niceness: int) -> None:
    die_with_parent(parent)
    os.nice(niceness)
    # Linux shares processors between sessions first, and niceness counts within one only (sched(7), autogroup).
    with contextlib.suppress(OSError):
        _AUTOGROUP.write_text(str(niceness))


def die_with_parent(parent: int) -> None:
    """Have the kernel end this child when its parent is gone, however that ended (Linux); called before its program."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
