"""Typst, with fonts of its own: sets the bulletin as PDF, and charts as PNG for forms that know no SVG.

Chosen after trying: one wheel (Apache-2.0), no browser and no system library, sets Chinese by its rules (2-character
indent, punctuation, no line that begins with a comma), embeds the glyphs used, and writes PDF/UA that readers can hear.
The fonts (Noto Serif SC and Noto Sans SC, SIL OFL 1.1) come as a wheel too, so every machine gives the same pages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, time
from pathlib import Path

import pylopdf_fonts_zh_cn as fonts
import typst

from services.reporting.bulletin import Bulletin, Chart, Section, Table
from services.reporting.svg import draw

LAYOUT = Path(__file__).with_name("bulletin.typ")
CHART_LAYOUT = Path(__file__).with_name("chart.typ")
CHART_PPI = 220


def to_pdf(bulletin: Bulletin) -> bytes:
    """Return the bulletin as PDF/UA-1; the same bulletin gives the same bytes."""
    issued = datetime.combine(bulletin.issued_on, time(), UTC)
    values = {"bulletin": json.dumps(_content(bulletin), ensure_ascii=False)}
    compiler = _compiler(LAYOUT)
    return _bytes(compiler.compile(format="pdf", sys_inputs=values, pdf_standards="ua-1", timestamp=issued))


def chart_png(chart: Chart) -> bytes:
    """Return a chart as PNG, for documents that can't hold SVG."""
    return _bytes(_compiler(CHART_LAYOUT).compile(format="png", ppi=CHART_PPI, sys_inputs={"svg": draw(chart)}))


def _compiler(layout: Path) -> typst.Compiler:
    return typst.Compiler(layout, font_paths=[fonts.serif_path().parent], ignore_system_fonts=True)


def _bytes(found: object) -> bytes:
    if not isinstance(found, bytes):
        raise TypeError("the compiler gave no single document")
    return found


def _content(bulletin: Bulletin) -> Mapping[str, object]:
    sections = [*bulletin.sections]
    if (errata := bulletin.errata_section()) is not None:
        sections.append(errata)
    return {
        "title": bulletin.title,
        "issue": bulletin.issue_line,
        "issuer": bulletin.issuer,
        "date": bulletin.date_line,
        "month": bulletin.month_line,
        "remarks": list(bulletin.remarks),
        "sections": [_section(section) for section in sections],
        "report_to": bulletin.report_to,
        "send_to": bulletin.send_to,
        "tables": [_table(table) for table in bulletin.comparison_tables()],
        "charts": [_chart(chart) for chart in bulletin.charts],
        "source": bulletin.comparison_note,
    }


def _section(section: Section) -> dict[str, object]:
    paragraphs = [
        [{"text": part.unbroken(), "bold": part.bold, "whole": part.figure is not None} for part in paragraph]
        for paragraph in section.paragraphs
    ]
    return {"heading": section.heading, "paragraphs": paragraphs}


def _table(table: Table) -> dict[str, object]:
    return {
        "caption": table.caption,
        "header": list(table.header),
        "rows": [list(row) for row in table.rows],
        "numbers_from": table.numbers_from,
    }


def _chart(chart: Chart) -> dict[str, object]:
    table = None if chart.empty else _table(chart.table())
    return {"title": chart.title, "svg": draw(chart), "note": chart.note, "table": table}
