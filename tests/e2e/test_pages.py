"""Every page's commands, run as they are written, one after another, on a whole installation."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from producers.demonstration.installation import Installation
from tests.conftest import open_folder
from tests.pages import Block, pages, runnable

pytestmark = pytest.mark.servers

PAGES = [page for page in pages() if runnable(page)]
LIMIT_S = 120


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """``hongyan up``, once for all pages."""
    with open_folder() as folder:
        found = Installation(folder / "data")
        yield found
        found.stop()


@pytest.fixture
def environment(installation: Installation) -> dict[str, str]:
    """What a reader has: the command on the path, and where the gateway is."""
    mine = {k: v for k, v in os.environ.items() if not k.startswith("HONGYAN_")}
    path = f"{Path(sys.executable).parent}:{mine.get('PATH', '/usr/bin:/bin')}"
    gateway = installation.stack["addresses"]["gateway"]
    return mine | {"PATH": path, "HONGYAN_DATA_DIR": str(installation.data), "GATEWAY": gateway, "COLUMNS": "200"}


@pytest.mark.timeout(LIMIT_S + 60)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_page_runs_as_it_is_written(page: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """One shell from top to bottom; what fails is named with its line on the page."""
    script = "\n".join(_step(block, tmp_path) for block in runnable(page))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    said = f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    assert done.returncode == 0, said


def _step(block: Block, folder: Path) -> str:
    """Return the shell lines of a block, with its place told first."""
    if block.language == "python":
        file = folder / f"block-{block.line}.py"
        file.write_text(block.text, encoding="utf-8")
        return f"echo '== {block.place}'\npython {file}"
    assert block.language == "sh", block.place
    return f"echo '== {block.place}'\n{block.text}"
