"""The bulletin as plain text, and as JSON with every figure's exact value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from unicodedata import east_asian_width

from services.reporting.bulletin import Bulletin, Chart, Compared, Section, Table, plain

INDENT = "　　"
MOST_DECIMALS = 6


def to_text(bulletin: Bulletin, language: str = "zh") -> str:
    """Return the bulletin as text for a terminal of fixed pitch; English names figures in English."""
    return "\n".join(_lines(bulletin, language)) + "\n"


def _lines(bulletin: Bulletin, language: str) -> Iterator[str]:
    yield from (bulletin.title, bulletin.issue_line, f"{bulletin.issuer}　　{bulletin.date_line}", "")
    for remark in bulletin.remarks:
        yield f"【说明】{remark}"
    for section in bulletin.sections:
        yield from _section(section)
    if (errata := bulletin.errata_section()) is not None:
        yield from _section(errata)
    yield from (f"报：{bulletin.report_to}", f"发：{bulletin.send_to}", "")
    for table in (_exact(bulletin, language), *bulletin.comparison_tables()):
        yield from _table(table)
    for chart in bulletin.charts:
        if not chart.empty:
            yield from _table(chart.table())
    yield bulletin.comparison_note


def _section(section: Section) -> Iterator[str]:
    yield section.heading
    for paragraph in section.paragraphs:
        yield f"{INDENT}{plain(paragraph)}"
    yield ""


def _exact(bulletin: Bulletin, language: str) -> Table:
    rows = [
        (
            one.label_en if language == "en" else one.label_zh,
            f"{_cut(one.exact)} {one.unit}",
            one.shown,
            one.shown_unit,
        )
        for one in bulletin.figures
    ]
    if language == "en":
        return Table("Exact and shown", ("Figure", "Exact", "Shown", "Unit"), rows)
    return Table("精确值与显示值", ("指标", "精确值", "显示值", "单位"), rows)


def _cut(exact: int | Decimal | None) -> str:
    """Return an exact value for people: a quotient without end is cut, and says so."""
    text = "—" if exact is None else str(exact)
    whole, point, decimals = text.partition(".")
    return text if len(decimals) <= MOST_DECIMALS else f"{whole}{point}{decimals[:MOST_DECIMALS]}…"


def _table(table: Table) -> Iterator[str]:
    yield table.caption
    rows = [list(table.header), *map(list, table.rows)]
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            _padded(text, width, number=column >= table.numbers_from)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
    yield ""


def _width(text: str) -> int:
    return sum(2 if east_asian_width(one) in "WFA" else 1 for one in text)


def _padded(text: str, width: int, *, number: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if number else text + space


def to_json(bulletin: Bulletin) -> dict[str, object]:
    """Return the bulletin as JSON values: figures whole, and what each paragraph says with the figures it names."""
    return {
        "month": bulletin.month,
        "title": bulletin.title,
        "issue": bulletin.issue,
        "issuer": bulletin.issuer,
        "issued_on": bulletin.issued_on.isoformat(),
        "remarks": list(bulletin.remarks),
        "sections": [_section_values(section) for section in bulletin.sections],
        "errata": [erratum.sentence() for erratum in bulletin.errata],
        "report_to": bulletin.report_to,
        "send_to": bulletin.send_to,
        "figures": [figure.to_json() for figure in bulletin.figures],
        "comparison": [_compared(one) for one in bulletin.comparison],
        "charts": [_chart(chart) for chart in bulletin.charts],
        "source": bulletin.source,
    }


def _section_values(section: Section) -> Mapping[str, object]:
    paragraphs = [
        {
            "text": plain(paragraph),
            "figures": [part.figure for part in paragraph if part.figure],
            "literals": [part.text for part in paragraph if part.literal],
        }
        for paragraph in section.paragraphs
    ]
    return {"heading": section.heading, "paragraphs": paragraphs}


def _compared(one: Compared) -> Mapping[str, object]:
    return {
        "metric_id": one.figure.metric_id,
        "previous": one.previous.to_json() if one.previous else None,
        "last_year": one.last_year.to_json() if one.last_year else None,
        "change_previous": one.change_previous,
        "change_last_year": one.change_last_year,
    }


def _chart(chart: Chart) -> Mapping[str, object]:
    points: Sequence[Mapping[str, object]] = [
        {"label": p.label, "value": None if p.value is None else str(p.value), "shown": p.shown, "note": p.note}
        for p in chart.points
    ]
    return {"title": chart.title, "kind": chart.kind, "unit": chart.unit, "points": points}
