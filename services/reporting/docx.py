"""The bulletin as DOCX: real styles, East Asian fonts by name, a page number, and a table behind each chart."""

from __future__ import annotations

import io
from datetime import datetime, time

from docx import Document
from docx.document import Document as DocxDocument
from docx.enum.text import WD_ALIGN_PARAGRAPH, WD_BREAK
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Length, Mm, Pt, RGBColor
from docx.styles.style import ParagraphStyle
from docx.table import _Cell, _Row
from docx.text.paragraph import Paragraph as DocxParagraph
from docx.text.run import Run

from services.reporting.bulletin import Bulletin, Chart, Paragraph, Section, Table
from services.reporting.typesetting import chart_png

SONG, HEI = "宋体", "黑体"
RED = RGBColor(0xB9, 0x1C, 0x1C)
WIDTH = Mm(158)
BODY_PT = 12
COMPARISON_SHARES = (30, 17, 17, 10, 16, 10)


def to_docx(bulletin: Bulletin) -> bytes:
    """Return the document."""
    document = Document()
    _set_up(document, bulletin)
    _title_block(document, bulletin)
    for remark in bulletin.remarks:
        document.add_paragraph(remark, style="Remark")
    for section in bulletin.sections:
        _section(document, section)
    errata = bulletin.errata_section()
    if errata is not None:
        _section(document, errata)
    first = document.add_paragraph(f"报：{bulletin.report_to}", style="Recipients")
    first.paragraph_format.space_before = Pt(24)
    _border(first, "top", "000000", 6)
    _border(document.add_paragraph(f"发：{bulletin.send_to}", style="Recipients"), "bottom", "000000", 6)
    _appendices(document, bulletin)
    written = io.BytesIO()
    document.save(written)
    return written.getvalue()


def _set_up(document: DocxDocument, bulletin: Bulletin) -> None:
    page = document.sections[0]
    page.page_width, page.page_height = Mm(210), Mm(297)
    page.left_margin = page.right_margin = Mm(26)
    page.top_margin, page.bottom_margin = Mm(28), Mm(25)
    properties = document.core_properties
    properties.title = f"{bulletin.title} {bulletin.issue_line}（{bulletin.month_line}）"
    properties.author = properties.last_modified_by = bulletin.issuer
    properties.language = "zh-CN"
    properties.comments = ""
    properties.created = properties.modified = datetime.combine(bulletin.issued_on, time())
    normal = _style(document, "Normal", SONG, 12)
    normal.paragraph_format.line_spacing = 1.6
    normal.paragraph_format.space_after = Pt(4)
    _style(document, "Title", HEI, 30).font.color.rgb = RED
    _style(document, "Heading 1", HEI, 14)
    for name, font, size in (("Body Text", SONG, 12), ("Remark", SONG, 12), ("Recipients", SONG, 12)):
        _style(document, name, font, size)
    cells = _style(document, "Cells", SONG, 9).paragraph_format
    cells.line_spacing, cells.space_after = 1.15, Pt(0)
    _indent(_paragraph_style(document, "Body Text"), first=200)
    _indent(_paragraph_style(document, "Recipients"), hanging=200)
    _paragraph_style(document, "Heading 1").paragraph_format.space_before = Pt(14)
    _page_number(page.footer.paragraphs[0])


def _paragraph_style(document: DocxDocument, name: str) -> ParagraphStyle:
    style = document.styles[name]
    if not isinstance(style, ParagraphStyle):
        raise TypeError(f"{name} is no paragraph style")
    return style


def _style(document: DocxDocument, name: str, font: str, size: int) -> ParagraphStyle:
    """Return a paragraph style, made where it is not there, in this font for Chinese and Western text alike."""
    if name not in [style.name for style in document.styles]:
        document.styles.add_style(name, 1).base_style = document.styles["Normal"]
    style = _paragraph_style(document, name)
    style.font.name, style.font.size = font, Pt(size)
    style.font.bold = style.font.italic = False
    style.font.color.rgb = RGBColor(0x1F, 0x29, 0x37)
    fonts = style.element.get_or_add_rPr().get_or_add_rFonts()
    for script in ("ascii", "hAnsi", "eastAsia", "cs"):
        fonts.set(qn(f"w:{script}"), font)
    for theme in ("asciiTheme", "hAnsiTheme", "eastAsiaTheme", "cstheme"):
        fonts.attrib.pop(qn(f"w:{theme}"), None)
    return style


def _indent(style: ParagraphStyle, *, first: int = 0, hanging: int = 0) -> None:
    """Indent by hundredths of a character, as Chinese documents do: it follows the size of the text."""
    found = style.element.get_or_add_pPr().get_or_add_ind()
    # Programs that don't know characters as a measure take the twentieths of a point beside them.
    for name, chars in (("firstLine", first), ("left", hanging), ("hanging", hanging)):
        if chars:
            found.set(qn(f"w:{name}Chars"), str(chars))
            found.set(qn(f"w:{name}"), str(round(chars / 100 * BODY_PT * 20)))


def _title_block(document: DocxDocument, bulletin: Bulletin) -> None:
    title = document.add_paragraph(bulletin.title, style="Title")
    title.alignment = WD_ALIGN_PARAGRAPH.CENTER
    for border in title.style.element.xpath(".//w:pBdr") if title.style is not None else []:
        border.getparent().remove(border)
    issue = document.add_paragraph(bulletin.issue_line)
    issue.alignment = WD_ALIGN_PARAGRAPH.CENTER
    imprint = document.add_paragraph(f"{bulletin.issuer}\t{bulletin.date_line}")
    imprint.paragraph_format.tab_stops.add_tab_stop(WIDTH, 2)
    _border(imprint, "bottom", "B91C1C", 12)


def _section(document: DocxDocument, section: Section) -> None:
    document.add_paragraph(section.heading, style="Heading 1")
    for paragraph in section.paragraphs:
        _words(document.add_paragraph(style="Body Text"), paragraph)


def _words(target: DocxParagraph, paragraph: Paragraph) -> None:
    target.alignment = WD_ALIGN_PARAGRAPH.JUSTIFY
    for part in paragraph:
        run = target.add_run(part.unbroken())
        if part.bold:
            _heavy(run)


def _heavy(run: Run) -> None:
    run.font.name = HEI
    run.element.get_or_add_rPr().get_or_add_rFonts().set(qn("w:eastAsia"), HEI)


def _appendices(document: DocxDocument, bulletin: Bulletin) -> None:
    tables = list(bulletin.comparison_tables())
    if tables:
        _new_page(document)
        document.add_paragraph("附一　本月、上月与去年同月", style="Heading 1")
        for table in tables:
            _table(document, table)
        document.add_paragraph(bulletin.comparison_note, style="Cells")
    if bulletin.charts:
        _new_page(document)
        document.add_paragraph("附二　图表", style="Heading 1")
        for chart in bulletin.charts:
            _chart(document, chart)


def _new_page(document: DocxDocument) -> None:
    document.add_paragraph().add_run().add_break(WD_BREAK.PAGE)


def _chart(document: DocxDocument, chart: Chart) -> None:
    caption = document.add_paragraph()
    caption.paragraph_format.keep_with_next = True
    caption.paragraph_format.space_before = Pt(16)
    _heavy(caption.add_run(chart.title))
    picture = document.add_picture(io.BytesIO(chart_png(chart)), width=WIDTH)
    # What a reader hears in place of the picture.
    picture._inline.docPr.set("descr", f"{chart.title}；数据见下表")
    if chart.note:
        document.add_paragraph(chart.note, style="Cells")
    if not chart.empty:
        _table(document, chart.table())


def _table(document: DocxDocument, table: Table) -> None:
    caption = document.add_paragraph(style="Cells")
    caption.paragraph_format.keep_with_next = True
    caption.paragraph_format.space_before = Pt(10)
    _heavy(caption.add_run(table.caption))
    grid = document.add_table(1, len(table.header), style="Table Grid")
    for column, width in zip(grid.columns, _widths(len(table.header)), strict=True):
        column.width = width
    for column, text in enumerate(table.header):
        _fill(grid.rows[0].cells[column], text, column >= table.numbers_from, heavy=True)
    _row_property(grid.rows[0], "tblHeader")
    for row in table.rows:
        added = grid.add_row()
        _row_property(added, "cantSplit")
        for cell, (column, text) in zip(added.cells, enumerate(row), strict=True):
            _fill(cell, text, column >= table.numbers_from)


def _widths(columns: int) -> list[Length]:
    """Return widths in hundredths of the page: the first column has names, the others numbers."""
    shares = COMPARISON_SHARES if columns == len(COMPARISON_SHARES) else (60, *[40 // (columns - 1)] * (columns - 1))
    return [Length(WIDTH * share // 100) for share in shares]


def _fill(cell: _Cell, text: str, number: bool, *, heavy: bool = False) -> None:
    paragraph = cell.paragraphs[0]
    paragraph.style = "Cells"
    run = paragraph.add_run(text)
    if heavy:
        _heavy(run)
    if number:
        paragraph.alignment = WD_ALIGN_PARAGRAPH.RIGHT


def _row_property(row: _Row, name: str) -> None:
    """Switch on a property of a row: ``tblHeader`` repeats it on each page, ``cantSplit`` keeps it on one."""
    found = OxmlElement(f"w:{name}")
    found.set(qn("w:val"), "true")
    row._tr.get_or_add_trPr().append(found)


def _border(paragraph: DocxParagraph, side: str, colour: str, size: int) -> None:
    borders = OxmlElement("w:pBdr")
    line = OxmlElement(f"w:{side}")
    for name, value in (("val", "single"), ("sz", str(size)), ("space", "4"), ("color", colour)):
        line.set(qn(f"w:{name}"), value)
    borders.append(line)
    paragraph._p.get_or_add_pPr().append(borders)


def _page_number(paragraph: DocxParagraph) -> None:
    paragraph.alignment = WD_ALIGN_PARAGRAPH.CENTER
    paragraph.add_run("— ")
    field = OxmlElement("w:fldSimple")
    field.set(qn("w:instr"), "PAGE")
    paragraph._p.append(field)
    paragraph.add_run(" —")
