"""The bulletin (政务窗口月报) as values: what it says, before any form of it is drawn.

Every number in it is a part that names its figure, so that no form can show one that was typed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Literal

from services.statistics.figure import Figure

CHINESE_NUMERALS = "一二三四五六七八九十"
NO_DATA = "无数据"
UNSETTLED = "＊"
"""Stands beside a figure of an earlier month that is not closed: nothing is reckoned from what may still change."""
UNSETTLED_NOTE = f"带{UNSETTLED}的月份尚未关账，数字可能不全，不计变化率。"

ChartKind = Literal["line", "bars", "shares", "tiles"]


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of text. A figure names itself and has its exact value; a ``literal`` was vouched for by an editor."""

    text: str
    figure: str | None = None
    exact: str | None = None
    bold: bool = False
    literal: bool = False

    def unbroken(self) -> str:
        """Return the text; a figure stays on one line with its unit."""
        text = self.text.lstrip()
        space = self.text[: len(self.text) - len(text)]
        return space + text.replace(" ", "\u00a0") if self.figure else self.text


Paragraph = Sequence[Part]


def plain(paragraph: Paragraph) -> str:
    """Return a paragraph's text."""
    return "".join(part.text for part in paragraph)


@dataclass(frozen=True, slots=True)
class Section:
    """A section with its heading, numeral included, and its paragraphs."""

    heading: str
    paragraphs: Sequence[Paragraph]


@dataclass(frozen=True, slots=True)
class Table:
    """A table for people: a caption, a header and rows of text. Columns from ``numbers_from`` on are numbers."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers_from: int = 1


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a chart; ``value`` is None where there is no data. ``key`` is a division's code in a tile map."""

    label: str
    value: Decimal | None
    shown: str
    key: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: its kind, what it shows, and its points; ``unit`` is that of the shown values."""

    id: str
    kind: ChartKind
    title: str
    unit: str
    points: Sequence[Point]
    note: str = ""

    @property
    def empty(self) -> bool:
        """Tell whether no point has a value."""
        return all(point.value is None for point in self.points)

    def table(self) -> Table:
        """Return the same values as a table, for whoever can't see the chart."""
        noted = any(point.note for point in self.points)
        header = ["项目", f"数值（{self.unit}）", *(["说明"] if noted else [])]
        rows = [[p.label, p.shown, *([p.note] if noted else [])] for p in self.points]
        return Table(f"{self.title}：数据", header, rows)


@dataclass(frozen=True, slots=True)
class Compared:
    """A figure beside the month before and the same month a year before; changes are from exact values, in per cent."""

    figure: Figure
    previous: Figure | None
    last_year: Figure | None
    change_previous: str
    change_last_year: str


@dataclass(frozen=True, slots=True)
class Erratum:
    """A figure of an earlier issue that is known otherwise now."""

    month: str
    label: str
    published: str
    now: str
    events: int
    reason: str = ""

    def sentence(self) -> str:
        """Return it in words."""
        year, month = self.month.split("-")
        why = f"，由 {self.events} 个迟到或更正的事件引起" if self.events else ""
        why = f"，原因：{self.reason}" if self.reason else why
        return f"{year} 年 {int(month)} 月“{self.label}”原公布 {self.published}，现为 {self.now}{why}。"


@dataclass(frozen=True, slots=True)
class Bulletin:
    """One issue. ``remarks`` are what readers must know: figures not closed yet, or closed against objections."""

    month: str
    title: str
    issuer: str
    issue: int
    issued_on: date
    sections: Sequence[Section]
    report_to: str
    send_to: str
    figures: Sequence[Figure]
    comparison: Sequence[Compared] = ()
    charts: Sequence[Chart] = ()
    errata: Sequence[Erratum] = ()
    remarks: Sequence[str] = ()
    source: str = ""
    groups: Sequence[tuple[str, Sequence[str]]] = field(default_factory=tuple)

    @property
    def issue_line(self) -> str:
        """The number of the issue as it is printed; no year stands beside it."""
        return f"第 {self.issue} 期"

    @property
    def date_line(self) -> str:
        """The date of the issue as it is printed."""
        return chinese_date(self.issued_on)

    @property
    def month_line(self) -> str:
        """The month that is reported on."""
        year, month = self.month.split("-")
        return f"{year} 年 {int(month)} 月"

    def errata_section(self) -> Section | None:
        """Return the corrections of earlier issues, where there are any."""
        if not self.errata:
            return None
        return Section("更正", [[Part(erratum.sentence())] for erratum in self.errata])

    @property
    def comparison_note(self) -> str:
        """What the comparison's mark means, where it stands; and what everything was counted from."""
        marked = any(UNSETTLED in cell for table in self.comparison_tables() for row in table.rows for cell in row)
        return f"{UNSETTLED_NOTE}{self.source}" if marked else self.source

    def comparison_tables(self) -> Iterator[Table]:
        """Give a table for each group of figures: this month, last month, the same month last year."""
        header = ("指标", "本月", "上月", "环比", "去年同月", "同比")
        by_id = {one.figure.metric_id: one for one in self.comparison}
        for title, ids in self.groups:
            rows = [_row(by_id[metric_id]) for metric_id in ids if metric_id in by_id]
            if rows:
                yield Table(title, header, rows)


def _row(one: Compared) -> list[str]:
    return [
        one.figure.label_zh,
        shown(one.figure),
        earlier(one.previous),
        one.change_previous,
        earlier(one.last_year),
        one.change_last_year,
    ]


def earlier(figure: Figure | None) -> str:
    """Return a figure of an earlier month as it is printed, marked where that month is not closed."""
    unsettled = figure is not None and figure.exact is not None and figure.basis == "log"
    return shown(figure) + (UNSETTLED if unsettled else "")


def shown(figure: Figure | None) -> str:
    """Return a figure as it is printed with its unit; never a false zero, and an imported one says so."""
    if figure is None or figure.exact is None:
        return NO_DATA
    unit = figure.shown_unit
    text = f"{figure.shown}{unit}" if unit == "%" else f"{figure.shown} {unit}"
    return f"{text}（已公布汇总）" if figure.basis == "published" else text


def chinese_date(day: date) -> str:
    """Return a date as it is printed."""
    return f"{day.year} 年 {day.month} 月 {day.day} 日"
