"""docs/subscribe.md: the sample receiver on this machine, run as it is written."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from services.runtime.embedded.ports import answers, free_port
from services.runtime.settings import with_environment
from tests.conditions import eventually
from tests.conftest import open_folder
from tests.e2e.test_up import ROOT, environment, start
from tests.pages import named

pytestmark = pytest.mark.servers


def written(name: str) -> tuple[dict[str, str], list[str]]:
    """Return the variables and the arguments of the page's block of this name."""
    block = named("subscribe.md", "sh", name)
    words = shlex.split(block)
    at = words.index("hongyan")
    return dict(word.split("=", 1) for word in words[:at]), words[at + 1 :]


def test_a_receiver_on_this_machine_can_be_registered_as_written() -> None:
    """With the variable as written the agency is added and its secret starts the receiver; without, it is named."""
    variables, _ = written("up")
    _, adding = written("add")
    port = str(free_port())
    adding = [word.replace("9000", port) for word in adding]
    with open_folder() as data:
        refused = start(data)
        told = hongyan(data, adding)
        assert refused.end() == 0
        assert (told.returncode, "HONGYAN_DELIVERY__ALLOWED_NETWORKS" in told.stderr) == (1, True)
        up = start(data, **variables)
        told = hongyan(data, adding)
        assert told.returncode == 0, told.stderr
        secret = next(word for word in told.stdout.split() if word.startswith("whsec_"))
        placeholder, receiving = written("receiver")
        assert placeholder == {"HONGYAN_RECEIVER_SECRET": "whsec_…"}
        receiver = subprocess.Popen(
            [sys.executable, "-m", "hongyan", *(word.replace("9000", port) for word in receiving)],
            env=with_environment({"HONGYAN_RECEIVER_SECRET": secret}),
        )
        try:
            assert eventually(lambda: answers(int(port)))
            told = hongyan(data, written("verify")[1])
            assert told.returncode == 0, told.stderr
        finally:
            receiver.terminate()
            receiver.wait(10)
            up.end()


def hongyan(data: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Call a command beside the installation that runs in a folder."""
    command = [sys.executable, "-m", "hongyan", *arguments]
    return subprocess.run(command, env=environment(data), capture_output=True, text=True, check=False, cwd=ROOT)
