"""Composes an issue of the bulletin: figures from the statistics, the editors' items, and the frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path

from services.reporting.bulletin import (
    CHINESE_NUMERALS,
    NO_DATA,
    Bulletin,
    Chart,
    Compared,
    Erratum,
    Point,
    Section,
)
from services.reporting.items import read_items
from services.reporting.masthead import ChartWanted, Masthead, issue_date, issue_number
from services.reporting.wording import section_one_parts
from services.runtime.errors import NotFoundError
from services.statistics.figure import Figure, Figures, Month
from services.statistics.rounding import round_half_up

BASES = {"published": "已公布汇总", "log": "未关账"}
"""What is said of a month's point in a line that is not of a closed month."""

Names = Callable[[str, str], str]
"""Gives the name of a dimension's value: (dimension, value) → name."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of the month as a whole: remarks for its readers, corrections of earlier issues, its source."""

    remarks: Sequence[str] = ()
    errata: Sequence[Erratum] = ()
    source: str = ""


@dataclass(frozen=True, slots=True)
class Composed:
    """An issue, and what its editor should look at before it is printed."""

    bulletin: Bulletin
    warnings: Sequence[str] = field(default_factory=tuple)


class Composer:
    """Composes the issue of one month."""

    def __init__(self, figures: Figures, groups: Sequence[tuple[str, Sequence[str]]], names: Names) -> None:
        self._figures = figures
        self._groups = sorted(groups, key=lambda group: place(group[0]))
        self._names = names

    def compose(
        self,
        month: Month,
        masthead: Masthead,
        folder: Path,
        standing: Standing,
        issued_on: date | None = None,
        language: str = "zh",
    ) -> Composed:
        """Return the issue; raises InvalidError for items that are not in order, and what the figures raise."""
        found = {figure.metric_id: figure for figure in self._defined(month)}

        def lookup(metric_id: str) -> Figure:
            return found.get(metric_id) or self._figures.figure(metric_id, str(month))

        items = read_items(folder / str(month), dict(masthead.sections), lookup)
        first = Section(
            f"一、{month.year} 年 {month.month} 月{masthead.section_one}",
            [list(section_one_parts(month, lookup, language))],
        )
        others = [
            Section(f"{CHINESE_NUMERALS[int(number) - 1]}、{section.heading}", section.paragraphs)
            for number, section in items.sections
        ]
        bulletin = Bulletin(
            month=str(month),
            title=masthead.title,
            issuer=masthead.issuer,
            issue=issue_number(month),
            issued_on=issued_on or issue_date(month, masthead.issued_after_working_days),
            sections=[first, *others],
            report_to=masthead.report_to,
            send_to=masthead.send_to,
            figures=list(found.values()),
            comparison=self.compared(month, found.values()),
            charts=[self._chart(number, wanted, month) for number, wanted in enumerate(masthead.charts, start=1)],
            errata=standing.errata,
            remarks=standing.remarks,
            source=standing.source,
            groups=self._groups,
        )
        return Composed(bulletin, items.warnings)

    def compared(self, month: Month, figures: Iterable[Figure] | None = None) -> list[Compared]:
        """Return the month's figures beside those of the month before and of the same month a year before."""
        return [self._compared(one, month) for one in (self._defined(month) if figures is None else figures)]

    def _defined(self, month: Month) -> Iterator[Figure]:
        """Give the month's figures; a metric that is not defined yet is left out."""
        for metric_id in (metric_id for _, ids in self._groups for metric_id in ids):
            with suppress(NotFoundError):
                yield self._figures.figure(metric_id, str(month))

    def _compared(self, figure: Figure, month: Month) -> Compared:
        previous = self._earlier(figure.metric_id, month.back(1))
        last_year = self._earlier(figure.metric_id, month.back(12))
        return Compared(figure, previous, last_year, change(figure, previous), change(figure, last_year))

    def _earlier(self, metric_id: str, month: Month) -> Figure | None:
        """Return a figure; None where there is nothing to compare with: it was not defined, or nothing was counted."""
        try:
            figure = self._figures.figure(metric_id, str(month))
        except NotFoundError:
            return None
        nothing = figure.exact is None or (figure.basis == "log" and figure.count == 0)
        return None if nothing else figure

    def _chart(self, number: int, wanted: ChartWanted, month: Month) -> Chart:
        try:
            figures = self._chart_figures(wanted, month)
        except NotFoundError:
            figures = []
        points = [self._point(wanted, figure) for figure in figures]
        unit = figures[0].shown_unit if figures else ""
        return Chart(f"chart-{number}", wanted.kind, f"图 {number}　{wanted.title}", unit, points, _note(points))

    def _chart_figures(self, wanted: ChartWanted, month: Month) -> Sequence[Figure]:
        if wanted.metrics:
            return [self._figures.figure(metric_id, str(month)) for metric_id in wanted.metrics]
        if wanted.by is None:
            return self._figures.series(wanted.metric, str(month), wanted.months)
        return self._figures.breakdown(wanted.metric, str(month), wanted.by, wanted.top)

    def _point(self, wanted: ChartWanted, figure: Figure) -> Point:
        nothing = figure.exact is None or (wanted.by is None and figure.basis == "log" and figure.count == 0)
        value = None if nothing or figure.exact is None else Decimal(figure.exact)
        printed = NO_DATA if nothing else figure.shown
        note = BASES.get(figure.basis, "") if wanted.by is None and not nothing else ""
        if wanted.metrics:
            return Point(figure.label_zh, value, printed, note=note)
        if wanted.by is None:
            year, number = figure.month.split("-")
            return Point(f"{year} 年 {int(number)} 月", value, printed, note=note)
        key = figure.dimensions.get(wanted.by, "")
        return Point(self._names(wanted.by, key), value, printed, key, note)


def change(figure: Figure, before: Figure | None) -> str:
    """Return the change in per cent against an earlier figure, from exact values.

    A dash where there is none: against nothing, against zero, and against a month that is not closed.
    """
    if before is None or not before.exact or figure.exact is None or before.basis == "log":
        return "—"
    share = (Decimal(figure.exact) - Decimal(before.exact)) / Decimal(before.exact) * 100
    return f"{round_half_up(share, 1):+}%"


def place(title: str) -> int:
    """Return where a group stands: those that are numbered like sections come first, in their order."""
    return CHINESE_NUMERALS.index(title[0]) if title[0] in CHINESE_NUMERALS else len(CHINESE_NUMERALS)


def _note(points: Sequence[Point]) -> str:
    noted = dict.fromkeys(point.note for point in points if point.note)
    return f"空心点见表中说明：{'、'.join(noted)}。" if noted else ""
