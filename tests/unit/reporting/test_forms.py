"""Every form of the bulletin says the same: golden texts, exact values, a table behind each chart."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser

from docx import Document
from openpyxl import load_workbook
from pypdf import PdfReader

from services.reporting.bulletin import Bulletin, plain
from services.reporting.composing import Standing
from services.reporting.docx import to_docx
from services.reporting.html import to_html
from services.reporting.plain import to_json, to_text
from services.reporting.typesetting import to_pdf
from services.reporting.xlsx import to_xlsx
from tests.bulletins import december
from tests.golden import assert_golden

LINKING = re.compile(r"https?://(?!www\.w3\.org/2000/svg)|<script|<link|<img|@import|url\(", re.IGNORECASE)


class Text(HTMLParser):
    """Collects a page's text, a line for each element that has some, without its styles."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = [""]
        self._silent = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent = self._silent or tag == "style"
        if tag not in {"data", "b", "time"}:
            self.lines.append("")

    def handle_endtag(self, tag: str) -> None:
        self._silent = self._silent and tag != "style"

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.lines[-1] += data.strip("\n")


def page_text(page: str) -> str:
    """Return a page's text."""
    parser = Text()
    parser.feed(page)
    return "\n".join(line for line in parser.lines if line.strip()) + "\n"


def squeezed(text: str) -> str:
    """Return a text without any space: where lines end is the form's own affair."""
    return "".join(text.split())


def docx_lines(content: bytes) -> Iterator[str]:
    """Give the paragraphs and the rows of tables, in their order."""
    document = Document(io.BytesIO(content))
    for block in document.iter_inner_content():
        if hasattr(block, "rows"):
            yield from (" | ".join(cell.text for cell in row.cells) for row in block.rows)
        elif block.text.strip():
            yield block.text.replace("\u00a0", " ")


def pdf_text(content: bytes) -> str:
    """Return the text of all pages."""
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(content)).pages)


def said(issue: Bulletin) -> list[str]:
    """Return every paragraph that an issue says."""
    errata = issue.errata_section()
    sections = [*issue.sections, *([errata] if errata else [])]
    return [plain(paragraph) for section in sections for paragraph in section.paragraphs]


def test_the_text_is_the_golden_one() -> None:
    """Order and layout of the bulletin, in our own words."""
    assert_golden("bulletin.txt", to_text(december()))


def test_the_page_is_the_golden_one() -> None:
    """Charts' labels and their tables included."""
    assert_golden("page.txt", page_text(to_html(december())))


def test_the_document_is_the_golden_one() -> None:
    """Paragraphs and tables in their order."""
    assert_golden("document.txt", "\n".join(docx_lines(to_docx(december()))) + "\n")


def test_the_print_is_the_golden_one() -> None:
    """What is copied out of the PDF is what stands on it; glyphs are embedded and mapped."""
    assert_golden("print.txt", squeezed(pdf_text(to_pdf(december()))) + "\n")


def test_a_figure_stands_on_one_line_with_its_unit() -> None:
    """No line ends within “0.13 万件”: neither before its unit nor between the unit's characters."""
    issue = december()
    lines = [squeezed(line) for line in pdf_text(to_pdf(issue)).splitlines()]
    paragraphs = [paragraph for section in issue.sections for paragraph in section.paragraphs]
    said = {squeezed(part.text) for paragraph in paragraphs for part in paragraph if part.figure}
    assert len(said) > 30
    split = [text for text in said if "".join(lines).count(text) != sum(line.count(text) for line in lines)]
    assert split == []


def test_the_workbook_is_the_golden_one() -> None:
    """Figures, remarks, comparison, and the data of each chart."""
    book = load_workbook(io.BytesIO(to_xlsx(december())))
    lines = []
    for sheet in book.worksheets:
        lines.append(f"[{sheet.title}]")
        lines += [" | ".join("" if cell is None else str(cell) for cell in row) for row in sheet.values]
    assert_golden("workbook.txt", "\n".join(lines) + "\n")


def test_every_form_says_every_paragraph() -> None:
    """No form leaves anything out: sections, errata, the remark on closing, recipients."""
    issue = december()
    forms = {
        "text": to_text(issue),
        "html": page_text(to_html(issue)),
        "docx": "".join(docx_lines(to_docx(issue))),
        "pdf": pdf_text(to_pdf(issue)),
    }
    wanted = [*said(issue), *issue.remarks, issue.report_to, issue.send_to, issue.issue_line, issue.date_line]
    missing = {name: [text for text in wanted if squeezed(text) not in squeezed(form)] for name, form in forms.items()}
    assert not any(missing.values()), missing


def test_figures_of_the_page_carry_their_exact_values() -> None:
    """A reader's program finds the metric and the value behind each shown number."""
    found = re.findall(r'<data value="([^"]+)" data-metric="([^"]+)"[^>]*>([^<]+)</data>', to_html(december()))
    assert ("66160", "items_handled", "6.6 万件") in found
    assert len(found) >= 30


def test_the_page_loads_nothing_from_elsewhere() -> None:
    """Government networks are closed, and an issue is opened years later."""
    page = to_html(december())
    assert LINKING.findall(page) == []
    assert "default-src &#x27;none&#x27;" in page


def test_each_chart_has_a_name_and_a_table_for_whoever_cannot_see_it() -> None:
    """The SVG has a title that it is labelled by; the table has a caption and scoped headers."""
    page = to_html(december())
    names = re.findall(r'<svg [^>]*aria-labelledby="([^"]+)"', page)
    assert names == [f"chart-{n}-title" for n in range(1, len(names) + 1)]
    assert all(f'<title id="{name}">' in page for name in names)
    tables = re.findall(r"<table>.*?</table>", page, re.DOTALL)
    assert len(tables) >= len(names) + 3
    assert all("<caption>" in table and 'scope="col"' in table and 'scope="row"' in table for table in tables)


def test_what_an_editor_writes_is_escaped() -> None:
    """A remark with markup stays text, in the page and in the print."""
    issue = december(Standing(remarks=["<b>&粗</b> #set #[x] $y$"]))
    assert "&lt;b&gt;&amp;粗" in to_html(issue)
    assert squeezed("<b>&粗</b> #set #[x] $y$") in squeezed(pdf_text(to_pdf(issue)))


def test_the_print_is_tagged_titled_and_the_same_each_time() -> None:
    """PDF/UA with a title and a language; the same issue gives the same bytes, so that it can be compared later."""
    content = to_pdf(december())
    reader = PdfReader(io.BytesIO(content))
    assert content == to_pdf(december())
    assert reader.metadata is not None
    assert reader.metadata.title == "政务窗口月报 第 12 期（2025 年 12 月）"
    assert str(reader.root_object["/Lang"]).lower().startswith("zh")
    assert reader.root_object["/MarkInfo"]["/Marked"]
    assert b"pdfuaid" in content or "pdfuaid" in str(
        reader.xmp_metadata.rdf_root.toxml() if reader.xmp_metadata else ""
    )


def test_exact_values_are_numbers_in_the_workbook() -> None:
    """A sum in a spreadsheet is a sum; a number that a spreadsheet would cut stays text."""
    sheet = load_workbook(io.BytesIO(to_xlsx(december())))["数字"]
    rows = {row[0]: row for row in sheet.iter_rows(min_row=2, values_only=True)}
    assert rows["items_handled"][3] == 66160
    assert (rows["project_funds"][3], rows["project_funds"][5:7]) == (226582000000, ("2265.82", "亿元"))


def test_json_has_figures_whole_and_literals_named() -> None:
    """Another program gets exact values as text where they are decimals, and the numbers that an editor vouched for."""
    found = json.loads(json.dumps(to_json(december()), ensure_ascii=False))
    by_id = {figure["metric_id"]: figure for figure in found["figures"]}
    assert by_id["project_speedup_rate"]["exact"] == "0.54690"
    paragraphs = [p for section in found["sections"] for p in section["paragraphs"]]
    assert [literal for p in paragraphs for literal in p["literals"]] == ["300余人"]


def test_an_issue_without_remarks_errata_and_charts_has_no_empty_headings() -> None:
    """What there is not is not announced."""
    issue = december(Standing())
    assert "\n更正\n" in to_text(december())
    assert "\n更正\n" not in to_text(issue)
    assert 'class="remark"' not in to_html(issue)
