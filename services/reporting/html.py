"""The bulletin as one HTML page: styles and charts inside, nothing loaded from anywhere, made to be printed too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from services.reporting.bulletin import Bulletin, Chart, Paragraph, Part, Section, Table
from services.reporting.svg import draw

STYLES = Path(__file__).with_name("bulletin.css")
# Nothing from elsewhere, no script: what a reader opens years later is what was issued.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def to_html(bulletin: Bulletin) -> str:
    """Return the page."""
    title = escape(f"{bulletin.title} {bulletin.issue_line}（{bulletin.month_line}）")
    return (
        '<!doctype html>\n<html lang="zh-CN">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">\n'
        f"<title>{title}</title>\n<style>\n{STYLES.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n"
        + "\n".join(_body(bulletin))
        + "\n</body>\n</html>\n"
    )


def _body(bulletin: Bulletin) -> Iterator[str]:
    yield "<main>"
    yield f'<header>\n<h1>{escape(bulletin.title)}</h1>\n<p class="issue">{escape(bulletin.issue_line)}</p>'
    yield (
        f'<div class="imprint"><p>{escape(bulletin.issuer)}</p>'
        f'<p><time datetime="{bulletin.issued_on.isoformat()}">{escape(bulletin.date_line)}</time></p></div>\n</header>'
    )
    if bulletin.remarks:
        remarks = "".join(f"<p>{escape(remark)}</p>" for remark in bulletin.remarks)
        yield f'<aside class="remark" aria-label="说明">{remarks}</aside>'
    for section in bulletin.sections:
        yield _section(section)
    errata = bulletin.errata_section()
    if errata is not None:
        yield _section(errata)
    yield (
        f'<div class="recipients"><p>报：{escape(bulletin.report_to)}</p><p>发：{escape(bulletin.send_to)}</p></div>'
    )
    yield "</main>"
    yield from _appendices(bulletin)


def _appendices(bulletin: Bulletin) -> Iterator[str]:
    tables = [_table(table) for table in bulletin.comparison_tables()]
    if tables:
        yield '<section class="appendix">\n<h2>附一　本月、上月与去年同月</h2>'
        yield from tables
        yield f'<p class="source">{escape(bulletin.comparison_note)}</p>\n</section>'
    if bulletin.charts:
        yield '<section class="appendix">\n<h2>附二　图表</h2>'
        for chart in bulletin.charts:
            yield _chart(chart)
        yield "</section>"


def _section(section: Section) -> str:
    paragraphs = "\n".join(f"<p>{_words(paragraph)}</p>" for paragraph in section.paragraphs)
    return f"<section>\n<h2>{escape(section.heading)}</h2>\n{paragraphs}\n</section>"


def _words(paragraph: Paragraph) -> str:
    return "".join(_part(part) for part in paragraph)


def _part(part: Part) -> str:
    text = escape(part.text)
    if part.figure is not None:
        exact = escape(part.exact or "")
        text = f'<data value="{exact}" data-metric="{escape(part.figure)}" title="精确值 {exact}">{text}</data>'
    return f"<b>{text}</b>" if part.bold else text


def _chart(chart: Chart) -> str:
    note = f"<p>{escape(chart.note)}</p>" if chart.note else ""
    table = "" if chart.empty else _table(chart.table())
    return f"<figure>\n<figcaption>{escape(chart.title)}</figcaption>\n{draw(chart)}\n</figure>\n{note}{table}"


def _table(table: Table) -> str:
    head = "".join(
        f'<th scope="col"{_number(table, column)}>{escape(text)}</th>' for column, text in enumerate(table.header)
    )
    rows = "\n".join(f"<tr>{''.join(_cells(table, row))}</tr>" for row in table.rows)
    return (
        f'<div class="scroll"><table>\n<caption>{escape(table.caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>"
    )


def _cells(table: Table, row: Sequence[str]) -> Iterator[str]:
    for column, text in enumerate(row):
        if column == 0:
            yield f'<th scope="row">{escape(text)}</th>'
        else:
            yield f"<td{_number(table, column)}>{escape(text)}</td>"


def _number(table: Table, column: int) -> str:
    return ' class="number"' if column >= table.numbers_from else ""
