"""The blocks of the documentation's pages. A shell block says what becomes of it:

``sh run``          run as it stands, in the order of the page, on a whole installation (tests/e2e/test_pages.py)
``sh skip WHY``     not run here, for a reason that is given
``sh NAME``         run by the page's own test (:data:`OWN_TESTS`), which needs other servers or a copy of the project,
                    and asks for the block by its name (:func:`named`)

``python run`` is run likewise, and so is ``python flask`` asked for by its name.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
OWN_TESTS = {
    "entitlement.md": "tests/integration/test_entitlement_doc.py",
    "extend.md": "tests/unit/catalogue/test_catalogue.py",
    "outbox.md": "tests/integration/test_outbox_doc.py",
    "poller.md": "tests/integration/test_poller_doc.py",
    "pull.md": "tests/integration/test_pull_doc.py",
    "receive.md": "tests/unit/docs/test_receive_page.py",
    "report.md": "tests/e2e/test_demo.py",
    "statistics.md": "tests/integration/test_statistics_doc.py",
    "subscribe.md": "tests/e2e/test_subscribe_doc.py",
}
_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: where it begins, its language, what is to become of it, and its text."""

    page: Path
    line: int
    language: str
    mode: str
    why: str
    text: str

    @property
    def place(self) -> str:
        """Return where to look."""
        return f"{self.page.name}:{self.line}"


def pages() -> list[Path]:
    """Return every page that people read: those under docs/ that no command writes, and the two at the top."""
    return [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def blocks(page: Path) -> list[Block]:
    """Return a page's blocks in order."""
    content = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(content):
        language, _, rest = match["info"].strip().partition(" ")
        mode, _, why = rest.partition(" ")
        line = content.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, language, mode, why.strip(), match["text"]))
    return found


def named(page: str, language: str, name: str) -> str:
    """Return the text of the one block of a page that is marked with this name."""
    (found,) = (b.text for b in blocks(ROOT / "docs" / page) if (b.language, b.mode) == (language, name))
    return found


@dataclass
class PageShell:
    """Runs the named blocks of a page as they stand, but for what only the reader can know (``changes``)."""

    page: str
    folder: Path
    environment: Mapping[str, str]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, name: str, changes: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a block to its end."""
        command = self._command(name, changes or {})
        return subprocess.run(
            command, cwd=self.folder, env=self._environment(), capture_output=True, text=True, check=False
        )

    def start(self, name: str, changes: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a block whose last command goes on until it is ended."""
        log = (self.folder / f"{name}.log").open("wb")
        with log:
            started = subprocess.Popen(
                self._command(name, changes),
                cwd=self.folder,
                env=self._environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(started)
        return started

    def end(self) -> None:
        """End what was started, the shells and what they run."""
        for one in self.started:
            if one.poll() is None:
                os.killpg(one.pid, signal.SIGTERM)
                one.wait(20)

    def _command(self, name: str, changes: Mapping[str, str]) -> list[str]:
        text = named(self.page, "sh", name)
        for written, meant in changes.items():
            assert written in text, f"{self.page}: {name} has no {written}"
            text = text.replace(written, meant)
        return ["bash", "-euo", "pipefail", "-c", text]

    def _environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{self.environment.get('PATH', '/usr/bin:/bin')}"
        return {**self.environment, "PATH": path, "COLUMNS": "240", "PYTHONPATH": str(ROOT)}


def runnable(page: Path) -> list[Block]:
    """Return what is run of a page here; a page with a test of its own is run there."""
    return [block for block in blocks(page) if block.mode == "run" and page.name not in OWN_TESTS]
