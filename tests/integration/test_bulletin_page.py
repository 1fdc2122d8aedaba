"""The bulletin's page in a real browser, on screen and printed: what people see, not what the source says."""

from __future__ import annotations

import io
import re
import subprocess
import unicodedata
from pathlib import Path

import pytest
from pypdf import PdfReader

from services.reporting.bulletin import plain
from services.reporting.html import to_html
from tests.bulletins import december
from tests.required import missing

A4 = (595, 842)
RADICALS = str.maketrans(
    "⺠⻁⻓⻔⻘⻚⻄⻝⻢⻣⻅⻆⻋⻥⻦⻨⻩⻬⻮⻳⻛⻜⻰", "民虎长门青页西食马骨见角车鱼鸟麦黄齐齿龟风飞龙"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page as a file; where there is no browser, what needs one is skipped."""
    reason = missing("chromium", ("chromium",), "chromium")
    if reason is not None:
        pytest.skip(reason)
    path = tmp_path_factory.mktemp("page") / "bulletin.html"
    path.write_text(to_html(december()), encoding="utf-8")
    return path


def chromium(page: Path, *arguments: str) -> bytes:
    """Run a headless browser that can reach nothing but the file."""
    profile = page.parent / "profile"
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", *arguments, page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, timeout=120).stdout


def squeezed(text: str) -> str:
    """Return a text without any space. The browser may print a character as the radical of the same shape."""
    return "".join(unicodedata.normalize("NFKC", text).translate(RADICALS).split())


def test_the_printed_page_has_every_paragraph_on_a4_with_page_numbers(page: Path) -> None:
    """Sections, remark, errata, recipients and tables come out of the printer, each page numbered."""
    printed = page.with_suffix(".pdf")
    chromium(page, f"--print-to-pdf={printed}", "--no-pdf-header-footer")
    pages = PdfReader(io.BytesIO(printed.read_bytes())).pages
    texts = [one.extract_text() for one in pages]
    whole = squeezed("".join(texts))
    issue = december()
    wanted = [plain(paragraph) for section in issue.sections for paragraph in section.paragraphs]
    wanted += [*issue.remarks, issue.report_to, issue.send_to, *(erratum.sentence() for erratum in issue.errata)]
    # A paragraph may go on over a page's end, where the page's number stands.
    unnumbered = re.sub(r"—\d+—", "", whole)
    assert [text for text in wanted if squeezed(text) not in unnumbered] == []
    assert [f"—{n}—" in squeezed(text) for n, text in enumerate(texts, start=1)] == [True] * len(texts)
    assert {(round(float(one.mediabox.width)), round(float(one.mediabox.height))) for one in pages} == {A4}
    assert 5 <= len(pages) <= 9


def test_the_browser_finds_charts_and_their_tables(page: Path) -> None:
    """As the browser has parsed it: every chart is drawn with shapes, and none of its text is lost."""
    dom = chromium(page, "--dump-dom").decode()
    charts = re.findall(r"<svg .*?</svg>", dom, re.DOTALL)
    assert len(charts) == len(december().charts)
    assert all(len(re.findall(r"<(?:rect|circle|line) ", chart)) >= 2 for chart in charts)
    assert dom.count("<table>") >= len(charts) + 3


def test_the_page_is_drawn_on_a_small_screen_too(page: Path) -> None:
    """A blank page of this size is a few kilobytes."""
    picture = page.with_suffix(".png")
    chromium(page, f"--screenshot={picture}", "--window-size=390,2400")
    assert len(picture.read_bytes()) > 60_000
