"""The supervisor, on real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from services.runtime.supervisor import Program, Supervisor
from tests.conditions import eventually

WAITS = "import signal; signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
PARENT = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True); sys.stdin.read(); " + WAITS


def python(name: str, code: str, folder: Path) -> Program:
    """Return a program that runs this code."""
    return Program(name, [sys.executable, "-c", code], folder / f"{name}.log")


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended, whether or not somebody has taken note of it."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_killed_child_comes_back(tmp_path: Path) -> None:
    """After SIGKILL the same program runs again under another process id."""
    with Supervisor() as supervisor:
        (child,) = supervisor.start(python("router", WAITS, tmp_path))
        first = eventually(lambda: child.pid)
        os.kill(first, signal.SIGKILL)
        assert eventually(lambda: child.pid not in {None, first} and child.pid)
        assert child.restarts == 1


def test_what_dies_young_is_tried_ever_more_slowly(tmp_path: Path) -> None:
    """A broken program does not spin: it is tried a few times within the first second, and no more."""
    with Supervisor() as supervisor:
        (child,) = supervisor.start(python("broken", "print('tried', flush=True)", tmp_path))
        eventually(lambda: child.restarts >= 3)
    assert (tmp_path / "broken.log").read_text().count("tried") <= 4


def test_a_program_that_can_not_be_started_says_why(tmp_path: Path) -> None:
    """A missing binary is the child's trouble, not the supervisor's end."""
    with Supervisor() as supervisor:
        (missing,) = supervisor.start(Program("missing", ["/nowhere/at-all"], tmp_path / "missing.log"))
        assert "nowhere" in eventually(lambda: missing.trouble)
        (sound,) = supervisor.start(python("sound", WAITS, tmp_path))
        assert eventually(lambda: sound.pid)


def test_stopping_ends_every_child_and_a_second_stop_does_nothing(tmp_path: Path) -> None:
    """Nothing is left, and nothing may be started any more."""
    supervisor = Supervisor()
    children = supervisor.start(*(python(f"p{n}", WAITS, tmp_path) for n in range(3)))
    pids = [eventually(lambda child=child: child.pid) for child in children]  # type: ignore[misc]
    supervisor.stop()
    supervisor.stop()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    with pytest.raises(RuntimeError):
        supervisor.start(python("late", WAITS, tmp_path))


def test_a_child_that_does_not_listen_is_killed_after_the_limit(tmp_path: Path) -> None:
    """SIGTERM asks, SIGKILL ends."""
    supervisor = Supervisor(term_s=0.2)
    (child,) = supervisor.start(python("stubborn", STUBBORN, tmp_path))
    eventually(lambda: child.program.log.exists() and "deaf" in child.program.log.read_text())
    supervisor.stop()
    assert child.pid is not None
    assert not psutil.pid_exists(child.pid)


def test_groups_end_in_reverse_order(tmp_path: Path) -> None:
    """What was started last is gone before what it needs is asked to end."""
    note = tmp_path / "order"
    code = (
        "import pathlib, signal, sys, threading; e = threading.Event(); "
        "signal.signal(signal.SIGTERM, lambda *_: e.set()); print('up', flush=True); e.wait(); "
        f"pathlib.Path({str(note)!r}).open('a').write(sys.argv[1])"
    )
    with Supervisor() as supervisor:
        for name in ("1", "2"):
            program = Program(name, [sys.executable, "-c", code, name], tmp_path / f"{name}.log")
            supervisor.start(program)
            eventually(lambda p=program: p.log.exists() and "up" in p.log.read_text())  # type: ignore[misc]
    assert note.read_text() == "21"


def test_what_a_child_started_itself_ends_with_it(tmp_path: Path) -> None:
    """Its whole group goes: also when the child was killed and is started again."""
    with Supervisor() as supervisor:
        (child,) = supervisor.start(python("parent", PARENT, tmp_path))
        log = child.program.log
        first = eventually(lambda: log.exists() and log.read_text().split())
        os.kill(eventually(lambda: child.pid), signal.SIGKILL)
        second = eventually(lambda: len(log.read_text().split()) == 2 and log.read_text().split()[1])
        assert eventually(lambda: is_gone(int(first[0])))
    assert eventually(lambda: is_gone(int(second)))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_a_supervisor_that_is_killed_takes_its_children_along(tmp_path: Path) -> None:
    """SIGKILL of the parent leaves nothing behind."""
    code = f"""
        import pathlib, signal, sys
        from services.runtime.supervisor import Program, Supervisor
        log = pathlib.Path({str(tmp_path / "child.log")!r})
        Supervisor().start(Program("child", [sys.executable, "-c", "import os, signal; print(os.getpid(), flush=True); "
            "signal.pause()"], log))
        signal.pause()
    """
    log = tmp_path / "child.log"
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    pid = int(eventually(lambda: log.exists() and log.read_text().strip()))
    parent.kill()
    parent.wait()
    assert eventually(lambda: is_gone(pid))
