"""Figures without a database: the same answers as the statistics give, from a table of exact values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from schemas.contracts import load_contracts
from schemas.formats import divisions
from services.runtime.errors import NotFoundError
from services.statistics.definition import Metric
from services.statistics.figure import Basis, Figure, Month, figure_of
from services.statistics.loading import Metrics, load_metrics
from services.statistics.shapes import shapes

Exact = int | Decimal | None
DECEMBER: Mapping[str, Exact] = {
    "items_handled": 66_160,
    "online_accepted": 64_089,
    "online_completed": 65_917,
    "integrated_window_accepted": 2_213,
    "window_issued": 3_590,
    "hall_mailed": 1_298,
    "consult_phone": 1_243,
    "consult_onsite": 5_534,
    "assessment_dimensions": 5,
    "inventory_draft_provincial_departments": 69,
    "inventory_draft_divisions": 21,
    "inventory_first_check_departments": 65,
    "livelihood_map_departments": 12,
    "policy_dispatch_departments": 8,
    "policy_new18_items": 28,
    "policy_briefing_enterprises": 120,
    "policy_app_divisions": 21,
    "policy_items_in_windows": 422,
    "center_consultations": 505,
    "project_one_to_one": 31,
    "project_services": 298,
    "project_items_accepted": 126,
    "project_items_completed": 118,
    "project_key_projects": 67,
    "project_funds": Decimal("226582000000.00"),
    "project_enterprises": 73,
    "project_speedup_rate": Decimal("0.54690"),
    "policy_consultations": 65,
    "policy_items_accepted": 4,
    "policy_fee_reduction": Decimal("156012.40"),
    "value_added_activities": 11,
    "natres_provincial_systems": 78,
    "natres_provincial_keep": 76,
    "natres_provincial_merge": 1,
    "natres_provincial_retire": 1,
    "natres_division_systems": 311,
    "natres_division_keep": 223,
    "natres_division_merge": 30,
    "natres_division_retire": 58,
}
BREAKDOWNS: Mapping[str, Sequence[tuple[str, int]]] = {
    "department_code": [
        (f"1151000000000{n:04d}X", value) for n, value in enumerate((14_555, 10_586, 7_939, 5_954, 310))
    ],
    "intake": [("online", 63_120), ("integrated_window", 2_213), ("department_window", 827)],
    "division": [("510000", 36_388), *((code, 900 + 70 * n) for n, code in enumerate(sorted(divisions())[1:]))],
}


class FakeFigures:
    """Answers from a table: month → metric → exact value. Months that are named in ``published`` are aggregates."""

    def __init__(
        self, months: Mapping[str, Mapping[str, Exact]], published: Sequence[str] = (), closed: Sequence[str] = ()
    ) -> None:
        self._months = months
        self._published = published
        self._closed = closed
        self._metrics: Metrics = load_metrics(shapes(load_contracts()))

    @property
    def groups(self) -> list[tuple[str, Sequence[str]]]:
        """The groups of the bulletin's own sections, with their titles."""
        return [(group.title_zh, group.ids) for group in self._metrics.groups if group.name.startswith("section_")]

    def figure(self, metric_id: str, month: str, dimensions: Mapping[str, str] | None = None) -> Figure:
        """Return a figure; one that is not in the table of a known month is 1, and of an unknown month nothing."""
        metric = self.metric(metric_id, month)
        known = self._months.get(month)
        exact: Exact = known.get(metric_id, 1) if known is not None else 0
        return figure_of(metric, Month.parse(month), exact, int(known is not None), dimensions, self._basis(month))

    def breakdown(self, metric_id: str, month: str, dimension: str, top: int | None = None) -> Sequence[Figure]:
        """Return a fixed breakdown."""
        metric = self.metric(metric_id, month)
        found = [
            figure_of(metric, Month.parse(month), value, value, {dimension: key}, self._basis(month))
            for key, value in BREAKDOWNS[dimension]
        ]
        return found[:top]

    def series(self, metric_id: str, month: str, months: int = 12) -> Sequence[Figure]:
        """Return the figures of so many months."""
        last = Month.parse(month)
        return [self.figure(metric_id, str(last.back(back))) for back in reversed(range(months))]

    def metric(self, metric_id: str, month: str) -> Metric:
        """Return a definition."""
        if metric_id == "undefined":
            raise NotFoundError(metric_id)
        return self._metrics.of(metric_id, month)

    def _basis(self, month: str) -> Basis:
        if month in self._published:
            return "published"
        return "closed" if month in self._closed else "log"
