"""The figures of the monthly report's section one (一、总体运行情况): what each counts, and how it is shown.

A figure is a value: event type, which of them, what is counted. Source of the figures: the bulletin's section one; the
populations are our reading of it (domain README 10.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from services.statistics.rounding import ShownUnit

Counting = Literal["cases", "events", "quantity"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure.

    ``where`` names dimensions and the values they must have. ``counting``: ``cases`` counts a case once, at its first
    occurrence; ``events`` counts each event; ``quantity`` sums their quantities.
    """

    id: str
    label_zh: str
    label_en: str
    type: str
    counting: Counting
    unit: str
    shown_unit: ShownUnit
    where: Mapping[str, str] = field(default_factory=dict)


_WINDOW = "cn.gov.sc.window"
_COMPLETED = f"{_WINDOW}.case.completed"
_ACCEPTED = f"{_WINDOW}.case.accepted"
_CONSULTATION = f"{_WINDOW}.consultation.recorded"

SECTION_ONE: tuple[Metric, ...] = (
    Metric(
        "items_handled",
        "省本级办理政务服务事项",
        "Items handled at provincial level",
        _COMPLETED,
        "cases",
        "件",
        "万件",
        {"level": "province"},
    ),
    Metric(
        "online_accepted",
        "受理政务服务事项（全程网办）",
        "Items accepted fully online",
        _ACCEPTED,
        "cases",
        "件",
        "万件",
        {"level": "province", "handling": "online"},
    ),
    Metric(
        "online_completed",
        "办结政务服务事项（全程网办）",
        "Items completed fully online",
        _COMPLETED,
        "cases",
        "件",
        "万件",
        {"level": "province", "handling": "online"},
    ),
    Metric(
        "integrated_window_accepted",
        "综合窗口受理政务服务事项",
        "Items accepted at the integrated window",
        _ACCEPTED,
        "cases",
        "件",
        "万件",
        {"level": "province", "intake": "integrated_window"},
    ),
    Metric(
        "window_issued",
        "窗口出件量",
        "Results handed out at windows",
        f"{_WINDOW}.result.issued",
        "events",
        "件",
        "万件",
        {"outlet": "window"},
    ),
    Metric(
        "hall_mailed",
        "政务大厅现场邮寄量",
        "Results mailed from the hall",
        f"{_WINDOW}.result.mailed",
        "events",
        "件",
        "万件",
        {"origin": "hall"},
    ),
    Metric(
        "consult_phone",
        "电话咨询",
        "Consultations by phone",
        _CONSULTATION,
        "quantity",
        "人/次",
        "人/次",
        {"mode": "phone"},
    ),
    Metric(
        "consult_onsite",
        "现场咨询服务",
        "Consultations on site",
        _CONSULTATION,
        "quantity",
        "人/次",
        "人/次",
        {"mode": "onsite"},
    ),
)
