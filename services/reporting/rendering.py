"""Section one as people read it: a table, the section in words, and what it was counted from."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from services.reporting.section_one import SectionOne

_TEXTS: Mapping[str, tuple[str, str]] = {
    "title": ("{month} 总体运行情况（第一部分）", "{month}: the month as a whole (section one)"),
    "columns": ("指标,精确值,显示值,单位", "Figure,Exact,Shown,Unit"),
    "none": ("{month} 没有数据", "No data in {month}"),
    "source": (
        "由 {events} 个事件统计，按发生时间（上海）归月；{log}",
        "Counted from {events} events by the time they happened (Shanghai); {log}",
    ),
    "log": (
        "截至 {partitions} 个分区的第 {records} 条记录",
        "up to record {records} over {partitions} partitions",
    ),
    "empty_log": ("统计尚未读到任何记录", "nothing has been read for the statistics yet"),
    "sentence": (
        "{year} 年 {month} 月，省本级共办理政务服务事项 {items_handled}。"
        "全程网办方面，受理 {online_accepted}、办结 {online_completed}；"
        "综合窗口受理 {integrated_window_accepted}，窗口出件 {window_issued}，"
        "大厅现场邮寄 {hall_mailed}；另解答电话咨询 {consult_phone}、现场咨询 {consult_onsite}。",
        "In {year}-{month:02d} the provincial level handled {items_handled}. "
        "Fully online, {online_accepted} were accepted and {online_completed} completed. "
        "The integrated window took in {integrated_window_accepted}, windows handed out {window_issued}, and the hall "
        "mailed {hall_mailed}. Consultations: {consult_phone} by phone, {consult_onsite} on site.",
    ),
}


def sentence(section: SectionOne, language: str = "zh") -> str:
    """Return the section in words, with every number taken from the figures."""
    shown = {figure.metric_id: f"{figure.shown} {figure.shown_unit}" for figure in section.figures}
    year, month = map(int, section.month.split("-"))
    return _text("sentence", language).format(year=year, month=month, **shown)


def print_section(section: SectionOne, console: Console, language: str = "zh") -> None:
    """Print the section; a month without events says so."""
    if section.events == 0:
        console.print(_text("none", language).format(month=section.month), highlight=False, soft_wrap=True)
    else:
        console.print(_table(section, language))
        console.print(sentence(section, language), highlight=False, soft_wrap=True)
    console.print(_source(section, language), highlight=False, soft_wrap=True)


def _table(section: SectionOne, language: str) -> Table:
    table = Table(title=_text("title", language).format(month=section.month))
    label, exact, shown, unit = _text("columns", language).split(",")
    table.add_column(label)
    table.add_column(exact, justify="right")
    table.add_column(shown, justify="right")
    table.add_column(unit)
    for figure in section.figures:
        name = figure.label_en if language == "en" else figure.label_zh
        table.add_row(name, f"{figure.exact} {figure.unit}", figure.shown, figure.shown_unit)
    return table


def _source(section: SectionOne, language: str) -> str:
    offsets = section.offsets.values()
    log = _text("log" if offsets else "empty_log", language)
    log = log.format(partitions=len(offsets), records=sum(offsets))
    return _text("source", language).format(events=section.events, log=log)


def _text(name: str, language: str) -> str:
    return _TEXTS[name][language == "en"]
