"""The bulletin's figures as XLSX: exact values as numbers, shown ones as text, the comparison, each chart's data."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from datetime import datetime, time
from decimal import Decimal

from openpyxl import Workbook
from openpyxl.styles import Alignment, Font
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.worksheet import Worksheet

from services.reporting.bulletin import Bulletin, Table
from services.statistics.figure import Figure

FIGURE_COLUMNS = ("指标", "名称", "期间", "精确值", "单位", "显示值", "显示单位", "依据", "计入数", "定义版本")
PERIODS = {"month": "本月", "year_to_date": "本年累计", "as_of": "月末"}
BASES = {"log": "事件日志", "closed": "已关账", "published": "已公布汇总"}
LARGEST_EXACT = 10**15
"""A spreadsheet keeps fifteen digits of a number; what has more goes in as text."""


def to_xlsx(bulletin: Bulletin) -> bytes:
    """Return the workbook."""
    book = Workbook()
    book.remove(book.worksheets[0])
    sheet = book.create_sheet("数字")
    _rows(sheet, FIGURE_COLUMNS, [_figure(figure) for figure in bulletin.figures])
    about = book.create_sheet("说明")
    _rows(about, ("项目", "内容"), _about(bulletin))
    compared = book.create_sheet("对照")
    tables = list(bulletin.comparison_tables())
    if tables:
        _rows(compared, ("栏目", *tables[0].header), [[t.caption, *row] for t in tables for row in t.rows])
    for number, chart in enumerate(bulletin.charts, start=1):
        _chart(book.create_sheet(f"图{number}"), chart.table(), [point.value for point in chart.points])
    book.properties.title = f"{bulletin.title} {bulletin.issue_line}（{bulletin.month_line}）"
    book.properties.creator = bulletin.issuer
    book.properties.created = book.properties.modified = datetime.combine(bulletin.issued_on, time())
    written = io.BytesIO()
    book.save(written)
    return written.getvalue()


def _about(bulletin: Bulletin) -> Iterable[Sequence[object]]:
    yield ("标题", bulletin.title)
    yield ("期号", bulletin.issue_line)
    yield ("月份", bulletin.month)
    yield ("单位", bulletin.issuer)
    yield ("日期", bulletin.issued_on)
    for remark in bulletin.remarks:
        yield ("说明", remark)
    for erratum in bulletin.errata:
        yield ("更正", erratum.sentence())
    yield ("来源", bulletin.source)


def _figure(figure: Figure) -> Sequence[object]:
    return (
        figure.metric_id,
        figure.label_zh,
        PERIODS.get(figure.period, figure.period),
        _number(figure.exact),
        figure.unit,
        figure.shown,
        figure.shown_unit,
        BASES.get(figure.basis, figure.basis),
        figure.count,
        figure.version,
    )


def _number(value: int | Decimal | None) -> object:
    """Return a number that a spreadsheet keeps whole; else its text."""
    if value is None:
        return "无数据"
    exact = Decimal(value)
    digits = len(exact.normalize().as_tuple().digits)
    return value if digits <= 15 and abs(exact) < LARGEST_EXACT else str(value)


def _rows(sheet: Worksheet, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    sheet.append(list(header))
    for row in rows:
        sheet.append([_safe(value) for value in row])
    for cell in sheet[1]:
        cell.font = Font(bold=True)
        cell.alignment = Alignment(wrap_text=True, vertical="top")
    sheet.freeze_panes = "A2"
    for column, cells in enumerate(sheet.columns, start=1):
        longest = max(sum(2 if ord(one) > 255 else 1 for one in str(cell.value or "")) for cell in cells)
        sheet.column_dimensions[get_column_letter(column)].width = min(60, longest + 2)


def _safe(value: object) -> object:
    """Keep text that looks like a formula text."""
    return (
        f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) and len(value) > 1 else value
    )


def _chart(sheet: Worksheet, table: Table, values: Sequence[Decimal | None]) -> None:
    header = (table.header[0], "精确值", *table.header[1:])
    rows = [
        (row[0], None if value is None else _number(value), *row[1:])
        for row, value in zip(table.rows, values, strict=True)
    ]
    _rows(sheet, header, rows)
