"""Counts a simulated month from its CSV files alone: no code of the product decides what counts here."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

CHINA = timezone(timedelta(hours=8))
START = "cn.gov.sc"
WINDOW = f"{START}.window"
FROM, TO = datetime(2025, 12, 1, tzinfo=CHINA), datetime(2026, 1, 1, tzinfo=CHINA)

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Counting:
    """Counts the files of a folder for one month."""

    folder: Path
    year: int = 2025
    month: int = 12

    @property
    def begin(self) -> datetime:
        """The month's first moment."""
        return datetime(self.year, self.month, 1, tzinfo=CHINA)

    @property
    def end(self) -> datetime:
        """The first moment after the month."""
        return datetime(self.year + self.month // 12, self.month % 12 + 1, 1, tzinfo=CHINA)

    @property
    def january(self) -> datetime:
        """The year's first moment."""
        return datetime(self.year, 1, 1, tzinfo=CHINA)

    def rows(self, name: str, field: str = "occurred_at") -> Iterator[tuple[datetime, Row]]:
        """Give (time, row) of a file; a time without offset is Chinese."""
        with (self.folder / f"{START}.{name}-synthetic.csv").open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                at = datetime.fromisoformat(row[field])
                yield (at if at.tzinfo else at.replace(tzinfo=CHINA)), row

    def firsts(self, name: str, key: str, since: datetime, field: str = "occurred_at") -> list[Row]:
        """Return each case's first row, of the cases whose first row lies between ``since`` and the month's end."""
        first: dict[str, tuple[datetime, Row]] = {}
        for at, row in self.rows(name, field):
            known = first.get(row[key])
            if known is None or at < known[0]:
                first[row[key]] = (at, row)
        return [row for at, row in first.values() if since <= at < self.end]

    def lasts(self, names: Iterable[str], key: str, field: str) -> list[Row]:
        """Return each key's last row up to the month's end, over several files."""
        last: dict[str, tuple[datetime, Row]] = {}
        for name in names:
            for at, row in self.rows(name, field):
                known = last.get(row[key])
                if at < self.end and (known is None or at >= known[0]):
                    last[row[key]] = (at, row)
        return [row for _, row in last.values()]

    def section_one(self) -> dict[str, int]:
        """Return the eight figures of section one."""
        accepted = self._provincial("window.case.accepted")
        completed = self._provincial("window.case.completed")
        return {
            "items_handled": len(completed),
            "online_accepted": sum(row["handling"] == "online" for row in accepted),
            "online_completed": sum(row["handling"] == "online" for row in completed),
            "integrated_window_accepted": sum(row["intake"] == "integrated_window" for row in accepted),
            "window_issued": self._results("window.result.issued", "outlet", "window"),
            "hall_mailed": self._results("window.result.mailed", "origin", "hall"),
            "consult_phone": self._contacts("phone"),
            "consult_onsite": self._contacts("onsite"),
        }

    def _provincial(self, name: str) -> list[Row]:
        return [row for row in self.firsts(name, "project_no", self.begin) if row["level"] == "province"]

    def _results(self, name: str, field: str, value: str) -> int:
        found = self.rows(name)
        return len({(r["project_no"], at) for at, r in found if self.begin <= at < self.end and r[field] == value})

    def _contacts(self, mode: str) -> int:
        within = {r["record_no"]: r for at, r in self.rows("window.consultation.recorded") if self._in_month(at)}
        return sum(int(row["count"]) for row in within.values() if row["mode"] == mode)

    def _in_month(self, at: datetime) -> bool:
        return self.begin <= at < self.end

    def all(self) -> dict[str, Decimal]:
        """Return all 39 figures; sums of money are in yuan, the rate is a share."""
        return {name: Decimal(value) for name, value in self.section_one().items()} | self.other_sections()

    def other_sections(self) -> dict[str, Decimal]:
        """Return the 31 figures of the other sections."""
        found = self._activities() | self._inventories() | self._policies() | self._requests() | self._projects()
        return {name: Decimal(value) for name, value in found.items()}

    def _activities(self) -> dict[str, int]:
        month = self.firsts("activity.held", "activity_no", self.begin, "held_on")
        year = self.firsts("activity.held", "activity_no", self.january, "held_on")

        def came(programme: str, column: str) -> int:
            return sum(int(row[column] or 0) for row in month if row["programme"] == programme)

        return {
            "livelihood_map_departments": came("民生服务一张图", "department_count"),
            "policy_dispatch_departments": came("惠企政策调度", "department_count"),
            "policy_briefing_enterprises": came("惠企政策宣讲", "enterprise_count"),
            "policy_app_divisions": came("天府易享应用", "division_count"),
            "value_added_activities": sum(row["programme"] == "涉企增值服务" for row in year),
        }

    def _inventories(self) -> dict[str, int]:
        ever = datetime(1, 1, 1, tzinfo=CHINA)
        listed = self.lasts(("inventory.decided",), "owner_code", "decided_on")
        checked = [row for at, row in self.rows("inventory.checked", "checked_on") if at < self.end]
        first = {row["owner_code"] for row in checked if row["round"] == "1" and row["level"] == "province"}
        latest = self.lasts(("inventory.decided", "inventory.revised"), "owner_code", "decided_on")
        found = {
            "assessment_dimensions": len(
                self.firsts("inventory.dimension.adopted", "dimension_code", ever, "adopted_on")
            ),
            "inventory_draft_provincial_departments": sum(row["level"] == "province" for row in listed),
            "inventory_draft_divisions": len({row["division"] for row in listed if row["level"] == "city"}),
            "inventory_first_check_departments": len(first),
        }
        for level, name in (("province", "provincial"), ("city", "division")):
            own = [row for row in latest if row["sector"] == "自然资源" and row["level"] == level]
            for column, ending in (("total", "systems"), ("keep", "keep"), ("merge", "merge"), ("retire", "retire")):
                found[f"natres_{name}_{ending}"] = sum(int(row[column]) for row in own)
        return found

    def _policies(self) -> dict[str, int | Decimal]:
        gone = {row["item_code"] for at, row in self.rows("policy.item.expired", "expired_on") if at < self.end}
        items = {row["item_code"]: row for at, row in self.rows("policy.item.published") if at < self.end}
        standing = [row for code, row in items.items() if code not in gone and row["division"] == "510000"]
        decided = self._of_centre("policy.claim.decided")
        return {
            "policy_new18_items": sum(row["policy_no"].startswith("新“18条”") for row in standing),
            "policy_items_in_windows": len(standing),
            "policy_items_accepted": len(self._of_centre("policy.claim.accepted")),
            "policy_fee_reduction": sum((Decimal(row["amount_fen"] or 0) for row in decided), Decimal(0)) / 100,
        }

    def _of_centre(self, name: str) -> list[Row]:
        return [row for row in self.firsts(name, "claim_no", self.january) if row["division"] == "510000"]

    def _requests(self) -> dict[str, int]:
        opened = self.firsts("enterprise.service.request.opened", "request_no", self.january)
        projects = [row["project_code"] for row in opened if row["section"] == "project"]
        return {
            "center_consultations": sum(row["section"] in {"finance", "science", "law"} for row in opened),
            "project_one_to_one": len(set(projects)),
            "project_services": len(projects),
            "policy_consultations": sum(row["section"] == "policy" for row in opened),
        }

    def _projects(self) -> dict[str, int | Decimal]:
        accepted = self.firsts("enterprise.project.case.accepted", "case_no", self.january)
        completed = self.firsts("enterprise.project.case.completed", "case_no", self.january)
        key = [row for row in accepted if row["key_project"] == "true"]
        limited = [row for row in completed if row["legal_days"] and row["actual_days"]]
        legal = sum(int(row["legal_days"]) for row in limited)
        return {
            "project_items_accepted": len(accepted),
            "project_items_completed": len(completed),
            "project_key_projects": len({row["project_code"] for row in key}),
            "project_funds": sum((Decimal(row["funds_fen"] or 0) for row in key), Decimal(0)) / 100,
            "project_enterprises": len({row["enterprise_uscc"] for row in accepted}),
            "project_speedup_rate": Decimal(legal - sum(int(row["actual_days"]) for row in limited)) / legal,
        }


def rows(folder: Path, name: str) -> Iterator[tuple[datetime, Row]]:
    """Give (time, row) of a file of window events."""
    return Counting(folder).rows(f"window.{name}")


def cases(folder: Path, name: str) -> list[Row]:
    """Return the provincial cases whose first event lies in December 2025."""
    firsts = Counting(folder).firsts(f"window.{name}", "project_no", FROM)
    return [row for row in firsts if row["level"] == "province"]


def figures(folder: Path) -> dict[str, int]:
    """Return the eight figures of section one of December 2025."""
    return Counting(folder).section_one()
