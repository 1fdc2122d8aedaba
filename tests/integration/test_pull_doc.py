"""docs/pull.md, run as it is written."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from services.runtime.settings import Settings, as_environment, with_environment
from tests.conditions import eventually
from tests.configuration import Configuration
from tests.conftest import OwnTopics
from tests.events import ISSUED, TestEvents
from tests.pages import named
from tests.processes import Processes

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "pull.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Return the page's blocks that are run."""
    return re.findall(r"^```sh run\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.servers
def test_the_page_as_written_takes_an_agency_from_the_webhook_to_its_first_receipt(
    own: OwnTopics,
    installation: Settings,
    configuration: Configuration,
    events: TestEvents,
    processes: Processes,
    tmp_path: Path,
) -> None:
    """Channel and key, a long poll, receipts, the digest, and the story of the event in the end."""
    # As installed: the address may be on the agency's own network, and is never verified.
    installation.delivery.allowed_networks.append("10.0.0.0/8")
    installation.delivery.require_verification = True
    installation.portal.url = processes.start("portal", installation).url
    added = Shell(installation, tmp_path).run(named("pull.md", "sh", "add"))
    assert "hongyan agency verify market-sc" in added
    configuration.subscription("s", "market-sc", [ISSUED])
    for name in ("router", "ledger"):
        processes.start(name, installation)
    installation.feeds.url = processes.start("feeds", installation).url
    first = events.publish(*(events.certificate(f"SYN-TRACE-{n}", 0) for n in range(3)))
    assert len(first) == 3
    switch, read, acknowledge, digest, trace = commands()
    shell = Shell(installation, tmp_path)
    shell.run(switch)
    found = eventually(lambda: len(batch := shell.run(read)) > 10 and json.loads(batch)[2:] and json.loads(batch), 30)
    assert [one["id"] for one in found] == [f"SYN-TRACE-{n}" for n in range(3)]
    # Markers of the router's transactions may stand between events: the page's cursors are the first ones.
    cursors = [int(one["hongyancursor"]) for one in found]
    said = acknowledge.replace('"up_to": 2', f'"up_to": {cursors[2]}').replace('"cursor": 1', f'"cursor": {cursors[1]}')
    assert shell.json(said)["recorded"] == 3
    told = shell.json(digest.replace("to=2", f"to={cursors[2]}"))
    assert told["count"] == 3
    shown = eventually(lambda: "已拒收" in (text := shell.run(trace, check=False)) and text, 30)
    assert "1/1" in shown
    assert "机构不在辖区" in shown


class Shell:
    """One shell after another in a folder, with the variables that the page sets on its way."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._folder = folder
        found = with_environment(as_environment(settings))
        path = f"{Path(sys.executable).parent}:{found['PATH']}"
        self._environment = found | {"PATH": path, "COLUMNS": "200"}
        self._before = ""

    def run(self, commands: str, *, check: bool = True) -> str:
        """Run a block and return what it prints."""
        script = f"set -eu\n{self._before}{commands}"
        done = subprocess.run(
            ["bash", "-c", script], env=self._environment, cwd=self._folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        setting = re.findall(r"^(?:KEY|FEED)=.*\n", commands, re.MULTILINE)
        self._before = "".join(setting) or self._before
        return done.stdout

    def json(self, commands: str) -> Any:
        """Run a block that prints JSON."""
        return json.loads(self.run(commands))
