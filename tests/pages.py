"""The blocks of the documentation's pages. A shell block says what becomes of it:

``sh run``          run as it stands, in the order of the page, on a whole installation (tests/e2e/test_pages.py)
``sh skip WHY``     not run here, for a reason that is given
``sh``              run by the page's own test (:data:`OWN_TESTS`), which needs other servers or a copy of the project

``python run`` is run likewise. In a page with a test of its own the mark may be the name that its test finds a block by
(``python flask``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
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


def runnable(page: Path) -> list[Block]:
    """Return what is run of a page here; a page with a test of its own is run there."""
    return [block for block in blocks(page) if block.mode == "run" and page.name not in OWN_TESTS]
