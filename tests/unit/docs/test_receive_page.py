"""docs/receive.md, run as it is written: each framework's receiver passes the check that the page tells of."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from consumers.receiver.checking import CHECKS
from consumers.receiver.probing import Probe
from tests.configuration import SECRET
from tests.webservers import serving_asgi, serving_wsgi

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "receive.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """Return the page's block of a language."""
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None, language
    return found[1]


@pytest.fixture
def namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What stands after the page's set-up: the kit is copied under the name that the page gives it."""
    copied = tmp_path / "hongyan_receiver.py"
    shutil.copy(ROOT / "consumers" / "receiver" / "kit.py", copied)
    spec = spec_from_file_location("hongyan_receiver", copied)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "hongyan_receiver", module)
    spec.loader.exec_module(module)
    monkeypatch.setenv("HONGYAN_RECEIVER_SECRET", SECRET)
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {"__name__": "page"}
    exec(block("python setup"), found)
    return found


@pytest.mark.parametrize("framework", ["fastapi", "flask", "wsgi"])
def test_the_receiver_of_the_page_passes_the_check_of_the_page(
    framework: str, namespace: dict[str, Any], tmp_path: Path
) -> None:
    """The very command, with the address of the test's own server; what it writes is what the page says."""
    exec(compile(block(f"python {framework}"), framework, "exec", dont_inherit=True), namespace)
    serve = serving_asgi if framework == "fastapi" else serving_wsgi
    with serve(namespace["app"]) as url:
        command = block("sh run").split()
        command[command.index("http://127.0.0.1:9000/")] = url
        done = subprocess.run(
            [sys.executable, "-m", *command], capture_output=True, text=True, check=False, env=environment()
        )
        assert done.returncode == 0, done.stdout + done.stderr
        refused = Probe(url, SECRET, 10.0).send(Probe(url, SECRET, 10.0).event("x.issued"))
    assert json.loads((tmp_path / "evidence.json").read_text(encoding="utf-8"))["passed"]
    assert (refused.status, refused.body.decode()) == (422, "没有证号")
    namespace["receiver"]._seen.close()


def environment() -> dict[str, str]:
    """Return the environment of the page's command, in which the product is importable from anywhere."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_the_page_names_every_check() -> None:
    """By the titles that the command prints."""
    rows = re.findall(r"^\| ([^|]+?) \| ", PAGE.split("## 上线前检查")[1], re.MULTILINE)
    titles = [one.title.split(" (")[0] for one in CHECKS]
    assert [row for row in rows if row not in {"检查", "---"}] == titles
