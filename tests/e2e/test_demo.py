"""The demonstration, whole, by README's own command: what it shows is what the product does; and its bulletin."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from docx import Document
from openpyxl import load_workbook
from playwright.sync_api import expect
from pypdf import PdfReader

from producers.simulation.commands import write_month
from producers.simulation.targets import published
from tests.conditions import eventually
from tests.conftest import open_folder
from tests.independent_count import Counting
from tests.portal_site import PASSWORD, Tabs, browser, sign_in

__all__ = ["browser"]
pytestmark = [pytest.mark.servers, pytest.mark.timeout(400)]
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A demonstration that has ended and whose installation still runs."""

    summary: Mapping[str, Any]
    data: Path
    errors: Path

    def said(self) -> str:
        """Return what it printed for people."""
        return self.errors.read_text(encoding="utf-8")

    @property
    def environment(self) -> dict[str, str]:
        """What its commands need to find it."""
        return clean_environment() | {
            "HONGYAN_DATA_DIR": str(self.data),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def run(self, command: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run a command line as a person would, in a folder."""
        return subprocess.run(
            ["bash", "-ec", command],
            cwd=folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def figures(self, month: str, folder: Path, *options: str) -> dict[str, Mapping[str, Any]]:
        """Return a month's figures by metric."""
        done = self.run(" ".join(["hongyan", "report", month, "--format", "json", *options]), folder)
        assert done.returncode == 0, done.stderr
        return {figure["metric_id"]: figure for figure in json.loads(done.stdout)["figures"]}

    def counted(self) -> bool:
        """Tell whether the statistics have read everything."""
        lag = json.loads(self.run("hongyan lag --json", self.data).stdout)
        return sum(group["lag"] for group in lag["groups"] if group["group"] == "statistics") == 0


def clean_environment() -> dict[str, str]:
    """Return the environment without settings of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HONGYAN_")}


@pytest.fixture(scope="module")
def demonstration() -> Iterator[Demonstration]:
    """Run README's command once, and let its installation stay for the tests of this module."""
    written = re.search(r"^(make \S+)\s+#.*留着", README, re.MULTILINE)
    assert written is not None
    with open_folder() as folder:
        data, errors = folder / "data", folder / "errors"
        # As it is written; only what is installed is not installed anew, and the data goes where the test looks.
        ours = ["--silent", "--old-file=install", f"BIN={Path(sys.executable).parent}", f"ARGS=--json --data {data}"]
        command = [*shlex.split(written[1]), *ours]
        with errors.open("w") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=clean_environment(),
                start_new_session=True,
            )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, errors.read_text()[-3000:]
            found = Demonstration(json.loads(line), data, errors)
            eventually(lambda: "ctrl-C" in found.said(), 30, "how to stop it")
            yield found
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)  # as ctrl-C does: to make and to what it runs
            process.communicate(timeout=90)


def test_a_reader_of_readme_alone_finds_why_a_certificate_did_not_arrive(
    demonstration: Demonstration, browser: Tabs
) -> None:
    """README's command prints all that is needed; from the sign-in page to the reason in under a minute of clicks."""
    printed = dict(re.findall(r"\(([a-z -]+)\): (.+)$", demonstration.said(), re.MULTILINE))
    with browser.page(printed["portal"]) as page:
        began = time.monotonic()
        sign_in(page, printed["account"], printed["one-time password"])
        page.get_by_label("一次性密码").fill(printed["one-time password"])
        page.get_by_label("新密码").fill(PASSWORD)
        page.get_by_label("再输一次").fill(PASSWORD)
        page.get_by_role("button", name="保存密码").click()
        page.get_by_role("navigation").get_by_role("link", name="总览").click()
        page.get_by_label("查一个事件").fill(printed["certificate"])
        page.get_by_role("button", name="查询").click()
        page.get_by_role("main").get_by_role("link", name=re.compile("医广")).click()
        page.get_by_label("上面没有的单位，为什么没有收到").select_option(label=printed["has not reached"])
        page.get_by_role("button", name="问为什么").click()
        answer = page.get_by_role("region", name="没有收到，原因")
        expect(answer).to_contain_text("要求 行政区划 division")
        expect(answer.get_by_role("link").first).to_be_visible()
        assert time.monotonic() - began < 60


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """Return an editor's folder with the items of December."""
    shutil.copytree(ROOT / "bulletin", tmp_path / "bulletin")
    return tmp_path


def test_the_demonstration_delivers_everything_and_the_figures_agree(demonstration: Demonstration) -> None:
    """Every delivery arrives at a real receiver, and December 2025 comes out of the pipeline as it was published."""
    summary = demonstration.summary
    assert summary["deliveries"] == summary["expected"] == 37
    assert 0 < summary["p50_ms"] <= summary["p95_ms"] <= summary["p99_ms"]
    assert len(summary["figures"]) == 39
    assert all(figure["agrees"] for figure in summary["figures"]), summary["figures"]
    assert set(summary["seconds"]) == {"up", "prepare", "publish", "simulate", "import", "count"}


def test_every_figure_is_what_an_independent_count_of_the_files_says(demonstration: Demonstration, desk: Path) -> None:
    """All 39, exact and not only as shown; what was published is nowhere asked."""
    counted = Counting(demonstration.data / "2025-12").all()
    assert counted.keys() == published()["2025-12"].keys()
    ours = demonstration.figures("2025-12", desk)
    wrong = {
        name: (ours[name]["exact"], value)
        for name, value in counted.items()
        if abs(Decimal(ours[name]["exact"]) - value) > Decimal("1e-15")
    }
    assert wrong == {}


def test_the_page_as_written_gives_every_form_of_the_bulletin(demonstration: Demonstration, desk: Path) -> None:
    """The commands of docs/report.md: each form opens with its own reader and has the same figures."""
    commands = re.findall(r"^```sh run\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    done = demonstration.run("".join(commands), desk)
    assert done.returncode == 0, done.stderr
    wanted = ["第12期", "2026年1月12日", "6.6万件", "2265.82亿元", "54.69%", "保留223个", "尚未关账", "成都市"]
    forms = {
        "text": done.stdout,
        "html": (desk / "bulletin.html").read_text(encoding="utf-8"),
        "pdf": "".join(page.extract_text() for page in PdfReader(desk / "bulletin.pdf").pages),
        "docx": docx_text((desk / "bulletin.docx").read_bytes()),
    }
    for name, text in forms.items():
        squeezed = re.sub(r"<[^>]*>|\s", "", text)
        assert [one for one in wanted if one not in squeezed] == [], name
    sheet = load_workbook(desk / "bulletin.xlsx")["数字"]
    assert {row[0]: row[5] for row in sheet.iter_rows(values_only=True)}["project_funds"] == "2265.82"
    assert len(json.loads((desk / "bulletin.json").read_text(encoding="utf-8"))["figures"]) >= 39


def docx_text(content: bytes) -> str:
    """Return the text of paragraphs and tables."""
    document = Document(io.BytesIO(content))
    cells = [cell.text for table in document.tables for row in table.rows for cell in row.cells]
    return "".join([*(paragraph.text for paragraph in document.paragraphs), *cells])


def test_an_item_that_is_not_in_order_stops_the_issue_with_its_place(demonstration: Demonstration, desk: Path) -> None:
    """A number typed by hand and a name mistyped: both named with file and line, and nothing is written."""
    item = desk / "bulletin" / "2025-12" / "4-09-错.md"
    item.write_text("办结 118 件\n{{ figure:itmes_handled }}\n", encoding="utf-8")
    done = demonstration.run("hongyan report 2025-12 --format pdf --out x.pdf", desk)
    assert done.returncode == 1
    assert not (desk / "x.pdf").exists()
    first, second = done.stderr.strip().splitlines()
    assert first.startswith("bulletin/2025-12/4-09-错.md:1: 数字 118 是手写的")
    assert second.startswith("bulletin/2025-12/4-09-错.md:2: 没有指标 itmes_handled")


def test_a_month_without_data_is_refused_and_never_printed_as_zeros(demonstration: Demonstration, desk: Path) -> None:
    """There is nothing to report on."""
    done = demonstration.run("hongyan report 2031-01", desk)
    assert (done.returncode, done.stdout) == (1, "")
    assert "2031-01 没有数据" in done.stderr


def test_another_month_by_another_seed_has_the_figures_of_its_own_events(
    demonstration: Demonstration, desk: Path
) -> None:
    """Nothing is fitted: a month that no figure was published of comes out as its own files say, on the same system."""
    files = write_month(2024, 5, desk / "month", seed=11, scale=0.03)
    done = demonstration.run(f"hongyan import {' '.join(map(str, files))} --source urn:sc:another --json", desk)
    assert done.returncode == 0, done.stderr
    eventually(demonstration.counted, 60, "the statistics")
    counted = Counting(desk / "month", 2024, 5).all()
    ours = demonstration.figures("2024-05", desk, "--issued 2024-06-12")
    assert {name: Decimal(ours[name]["exact"]) for name in counted} == {
        name: pytest.approx(value, abs=Decimal("1e-15")) for name, value in counted.items()
    }
    assert sum(len(file.read_text(encoding="utf-8-sig").splitlines()) - 1 for file in files) > 2000
