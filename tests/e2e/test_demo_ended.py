"""A demonstration that is ended before its time leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.conditions import eventually
from tests.conftest import open_folder

pytestmark = pytest.mark.servers


def plain_environment() -> dict[str, str]:
    """Return an environment in which nothing of Hongyan is set."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HONGYAN_")}


Start = Callable[..., subprocess.Popen[str]]


def said(process: subprocess.Popen[str]) -> str:
    """Return what it and everything below it told people."""
    return process.stderr.read() if process.stderr else ""


@pytest.fixture
def start() -> Iterator[Start]:
    """Start demonstrations that put their temporary folders where the test can see them; none may be left."""
    started: list[subprocess.Popen[str]] = []
    with open_folder() as folder:

        def demo(*arguments: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-m", "hongyan", "demo", "--json", *arguments],
                env=plain_environment() | {"TMPDIR": str(folder)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            started.append(process)
            return process

        yield demo
        for process in started:
            process.kill()
            process.communicate()
        left = [path.name for path in folder.iterdir()]
    assert left == []


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return every process below it."""
    return psutil.Process(process.pid).children(recursive=True)


def runs(process: subprocess.Popen[str], word: str) -> bool:
    """Tell whether a process below it has a word in its command."""
    for child in family(process):
        with suppress(psutil.NoSuchProcess):
            if any(word in part for part in child.cmdline()):
                return True
    return False


def test_a_demonstration_that_stays_ends_on_sigterm_and_leaves_nothing(start: Start) -> None:
    """After its summary it keeps running; SIGTERM ends it, everything that it started, and its folder."""
    process = start("--stay", "--no-month")
    summary = json.loads(process.stdout.readline() if process.stdout else "")
    assert summary["deliveries"] == summary["expected"]
    members = family(process)
    assert len(members) > 10
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert not [one for one in members if one.is_running()]
    words = said(process)
    assert ("临时数据已删除" in words, "数据仍在" in words) == (True, False)


def test_a_demonstration_leaves_the_data_in_a_folder_that_was_named_and_says_so(start: Start) -> None:
    """It says nothing of data being gone that is there, though it is interrupted."""
    with open_folder() as folder:
        data = folder / "data"
        process = start("--no-month", "--data", str(data))
        eventually(lambda: runs(process, "kafka.Kafka"), 60)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        words = said(process)
        assert (f"数据仍在 {data}" in words, "已删除" in words, (data / "kafka").is_dir()) == (True, False, True)


@pytest.mark.parametrize(("how", "when"), [(signal.SIGINT, "kafka.Kafka"), (signal.SIGTERM, "receiver")])
def test_a_demonstration_that_is_interrupted_leaves_nothing(start: Start, how: signal.Signals, when: str) -> None:
    """While the servers start, or while certificates are published: it says by its status that it was interrupted."""
    process = start("--no-month")
    eventually(lambda: runs(process, when), 60)
    members = family(process)
    process.send_signal(how)
    assert process.wait(60) == 130
    assert not [one for one in members if one.is_running()]


def test_a_demonstration_that_is_killed_takes_everything_along(start: Start) -> None:
    """SIGKILL leaves no time to clean up: the processes end all the same, and only the folder is left."""
    process = start("--no-month")
    eventually(lambda: runs(process, "gateway"), 90)
    members, folder = family(process), Path(eventually(lambda: folder_of(process)))
    process.kill()
    eventually(lambda: not [one for one in members if one.is_running()], 30)
    shutil.rmtree(folder)


def folder_of(process: subprocess.Popen[str]) -> str:
    """Return the temporary folder that it was given, from the command below it."""
    command = next(child.cmdline() for child in family(process) if "--data" in child.cmdline())
    return command[command.index("--data") + 1]
