"""Section one (总体运行情况) in words: a template worded anew, whose every number is a figure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from services.reporting.bulletin import Part, shown
from services.statistics.figure import Figure, Month

SECTION_ONE: Mapping[str, str] = {
    "zh": (
        "{year} 年 {month} 月，省本级共办理政务服务事项 {items_handled}。"
        "全程网办方面，受理 {online_accepted}、办结 {online_completed}；"
        "综合窗口受理 {integrated_window_accepted}，窗口出件 {window_issued}，"
        "大厅现场邮寄 {hall_mailed}；另解答电话咨询 {consult_phone}、现场咨询 {consult_onsite}。"
    ),
    "en": (
        "In {year}-{month:02d} the provincial level handled {items_handled}. "
        "Fully online, {online_accepted} were accepted and {online_completed} completed. "
        "The integrated window took in {integrated_window_accepted}, windows handed out {window_issued}, and the hall "
        "mailed {hall_mailed}. Consultations: {consult_phone} by phone, {consult_onsite} on site."
    ),
}
_FIELD = re.compile(r"\{(?P<name>[a-z_]+)(?P<spec>:[^}]*)?\}")


def named_figures(language: str = "zh") -> list[str]:
    """Return the metrics that the sentence names."""
    return [found["name"] for found in _FIELD.finditer(SECTION_ONE[language]) if found["name"] not in {"year", "month"}]


def section_one_parts(month: Month, lookup: Callable[[str], Figure], language: str = "zh") -> Iterator[Part]:
    """Give the sentence's parts, with each figure as it is shown."""
    template = SECTION_ONE[language]
    position = 0
    for found in _FIELD.finditer(template):
        yield Part(template[position : found.start()])
        yield _part(found, month, lookup)
        position = found.end()
    yield Part(template[position:])


def _part(found: re.Match[str], month: Month, lookup: Callable[[str], Figure]) -> Part:
    name = found["name"]
    if name in {"year", "month"}:
        return Part(found[0].format(year=month.year, month=month.month))
    figure = lookup(name)
    return Part(shown(figure), figure.metric_id, None if figure.exact is None else str(figure.exact))
