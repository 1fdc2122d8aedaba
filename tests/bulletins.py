"""An issue of the bulletin to look at: December 2025 by a table of figures, with everything that an issue can have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from schemas.contracts import load_contracts
from schemas.formats import divisions
from services.reporting.bulletin import Bulletin, Erratum
from services.reporting.composing import Composer, Standing
from services.reporting.masthead import read_masthead
from services.reporting.naming import names, symbol_names
from services.statistics.figure import Month
from tests.fakes.figures import BREAKDOWNS, DECEMBER, Exact, FakeFigures

FOLDER = Path(__file__).parents[1] / "bulletin"
DECEMBER_2025 = Month(2025, 12)
NOVEMBER: Mapping[str, Exact] = {
    name: value * 93 // 100 if isinstance(value, int) else value for name, value in DECEMBER.items()
}
HANDLED = {1: 45_110, 2: 35_110, 3: 59_110, 4: 55_110, 5: 57_110, 6: 62_110, 7: 61_110, 9: 58_110, 10: 60_210}
DEPARTMENTS = ("省市场监管局", "省人力资源社会保障厅", "住房城乡建设厅", "交通运输厅", "省中医药管理局")
KNOWN = {code: name for (code, _), name in zip(BREAKDOWNS["department_code"], DEPARTMENTS, strict=True)} | divisions()
NAMES = names(symbol_names(load_contracts()), lambda _, value: KNOWN.get(value, value))
STANDING = Standing(
    remarks=["本月关账时尚有一项核对未通过，由李四以“来源系统停机，已书面确认”为由予以关账。"],
    errata=[Erratum("2025-11", "综合窗口受理政务服务事项", "0.20 万件", "0.21 万件", 3)],
    source="由 148,212 个事件统计，按发生时间（上海）归月；截至 60 个分区的第 150,118 条记录。",
)


def figures() -> FakeFigures:
    """Return figures of a year: August without data, the first three months as published aggregates."""
    months = {f"2025-{month:02d}": {"items_handled": value} for month, value in HANDLED.items()}
    published = ["2025-01", "2025-02", "2025-03"]
    return FakeFigures(months | {"2025-11": NOVEMBER, "2025-12": DECEMBER}, published, ["2025-11", "2025-12"])


def composer(found: FakeFigures | None = None) -> Composer:
    """Return a composer over these figures."""
    found = found or figures()
    return Composer(found, found.groups, NAMES)


def december(standing: Standing = STANDING) -> Bulletin:
    """Return the issue."""
    return composer().compose(DECEMBER_2025, read_masthead(FOLDER), FOLDER, standing).bulletin
