"""Counts every cell of the departmental and push metrics anew: from CSV rows and receipts, in plain Python.

No code of the product decides what counts here, nor any of its SQL; what it should come to is written a second time.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

from tests.independent_count import CHINA, Counting, Row

Names = tuple[str, ...]
Cells = dict[Names, Decimal]
"""What a metric comes to by the values of some dimensions; where it has no value there is no entry."""
Measure = Callable[[Sequence[Any]], Decimal | None]

PLACES = ("department_code", "division", "level")
WORKING_DAYS = Path(__file__).parents[1] / "schemas" / "data" / "working_days.csv"
DEADLINES = {
    "cn.gov.sc.health.medical-ad-certificate.issued": 5,
    "cn.gov.sc.health.medical-ad-certificate.revoked": 5,
    "cn.gov.sc.credit.repaired": 10,
    "cn.gov.sc.market.penalty.decided": None,
}
OUTCOMES = ("delivered", "accepted", "rejected", "parked")
FOLLOW_UPS = {"cn.gov.sc.health.medical-ad-certificate.revoked", "cn.gov.sc.credit.repaired"}


def by(rows: Iterable[Row], dimensions: Names, measure: Measure = lambda rows: Decimal(len(rows))) -> Cells:
    """Return a measure of the rows of each combination of values."""
    groups: dict[Names, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(name) or "" for name in dimensions), []).append(row)
    found = {names: measure(group) for names, group in groups.items()}
    return {names: value for names, value in found.items() if value is not None}


def crossings(dimensions: Names) -> Iterator[Names]:
    """Give no dimension, each one, and each two."""
    for size in range(3):
        yield from combinations(dimensions, size)


def divided(tops: Cells, bottoms: Cells) -> Cells:
    """Return the quotient of each group that both have and that is not of zero."""
    return {names: top / bottoms[names] for names, top in tops.items() if bottoms.get(names)}


@dataclass(frozen=True, slots=True)
class Departments:
    """The departmental metrics of one month of a folder's files."""

    counting: Counting

    def cells(self) -> dict[tuple[str, Names], Cells]:
        """Return every metric by none, one and two of its dimensions."""
        accepted, completed = self._firsts("accepted"), self._firsts("completed")
        withdrawn = self._firsts("withdrawn")
        online = [row for row in completed if row["handling"] == "online"]
        limited = [row for row in completed if row["promised_days"] and row["actual_days"]]
        overdue = [row for row in limited if int(row["actual_days"]) > int(row["promised_days"])]
        earlier = Counting(self.counting.folder, *self._month_before())
        before = earlier.firsts("window.case.completed", "project_no", earlier.begin)
        found: dict[tuple[str, Names], Cells] = {}
        for metric, rows, more in (
            ("dept_accepted", accepted, ("handling", "intake", "task_code")),
            ("dept_completed", completed, ("handling", "intake", "result", "task_code")),
            ("dept_withdrawn", withdrawn, ("reason_code",)),
            ("dept_online_completed", online, ()),
            ("dept_limited", limited, ()),
            ("dept_overdue", overdue, ()),
            ("dept_open", self._open(), ()),
        ):
            found |= {(metric, names): by(rows, names) for names in crossings((*PLACES, *more))}
        for names in crossings(PLACES):
            whole = by(completed, names)
            found["dept_online_share", names] = zeroed(by(online, names), whole, whole)
            found["dept_overdue_share", names] = zeroed(by(overdue, names), by(limited, names), by(limited, names))
            found["dept_mean_days", names] = by(completed, names, mean_days)
            found["dept_speedup", names] = by(completed, names, speedup)
            found["dept_completed_on_month", names] = changed(whole, by(before, names))
            found["dept_completed_on_year", names] = {}
        for names in crossings(("intake", "department_code")):
            rest = tuple(name for name in names if name != "intake")
            kept = [names.index(name) for name in rest]
            whole = by(accepted, rest)
            found["dept_channel_share", names] = {
                group: value / whole[tuple(group[n] for n in kept)] for group, value in by(accepted, names).items()
            }
        return found

    def _firsts(self, name: str) -> list[Row]:
        return self.counting.firsts(f"window.case.{name}", "project_no", self.counting.begin)

    def _open(self) -> list[Row]:
        """Return the last acceptance of each case that nothing has ended by the month's end."""
        ended: dict[str, datetime] = {}
        for name in ("completed", "withdrawn"):
            for at, row in self.counting.rows(f"window.case.{name}"):
                if at < self.counting.end:
                    ended[row["project_no"]] = max(at, ended.get(row["project_no"], at))
        accepted: dict[str, tuple[datetime, Row]] = {}
        for at, row in self.counting.rows("window.case.accepted"):
            known = accepted.get(row["project_no"])
            if at < self.counting.end and (known is None or at >= known[0]):
                accepted[row["project_no"]] = (at, row)
        return [row for number, (at, row) in accepted.items() if number not in ended or ended[number] < at]

    def _month_before(self) -> tuple[int, int]:
        count = self.counting.year * 12 + self.counting.month - 2
        return count // 12, count % 12 + 1


def start(month: tuple[int, int]) -> datetime:
    """Return a month's first moment."""
    return datetime(*month, 1, tzinfo=CHINA)


def zeroed(tops: Cells, bottoms: Cells, of: Cells) -> Cells:
    """Return quotients; a group that has nothing above has a share of zero."""
    return divided({names: tops.get(names, Decimal(0)) for names in of}, bottoms)


def changed(now: Cells, before: Cells) -> Cells:
    """Return the change of each group against what it was; a change against nothing is none."""
    return {names: (value - before[names]) / before[names] for names, value in now.items() if before.get(names)}


def mean_days(rows: Sequence[Row]) -> Decimal | None:
    """Return the mean of the days taken, of the cases that told them."""
    told = [int(row["actual_days"]) for row in rows if row["actual_days"]]
    return Decimal(sum(told)) / len(told) if told else None


def speedup(rows: Sequence[Row]) -> Decimal | None:
    """Return how much faster than the legal limits all of them were together."""
    told = [
        (int(row["legal_days"]), int(row["actual_days"])) for row in rows if row["legal_days"] and row["actual_days"]
    ]
    legal = sum(limit for limit, _ in told)
    return Decimal(legal - sum(actual for _, actual in told)) / legal if legal else None


@dataclass(frozen=True, slots=True)
class Pushes:
    """The push service's metrics of one month, from receipts as JSON objects and from published events."""

    receipts: Sequence[Mapping[str, Any]]
    year: int
    month: int

    def cells(self) -> dict[tuple[str, Names], Cells]:
        """Return every metric by none, one and two of its dimensions."""
        own = [row for row in self._once() if self._within(row["at"])]
        outcome = {name: [row for row in own if row["outcome"] == name] for name in OUTCOMES}
        timely = [row for row in outcome["delivered"] if row["deadline"] in ("within", "after")]
        within = [row for row in timely if row["deadline"] == "within"]
        corrections = self._last_follow_ups()
        wide, narrow = ("publisher", "agency", "event_type", "channel"), ("publisher", "agency", "event_type")
        found: dict[tuple[str, Names], Cells] = {}
        for metric, rows, dimensions in (
            ("push_delivered", outcome["delivered"], wide),
            ("push_acknowledged", outcome["accepted"], wide),
            ("push_rejected", outcome["rejected"], wide),
            ("push_parked", outcome["parked"], narrow),
            ("push_with_deadline", timely, narrow),
            ("push_within_deadline", within, narrow),
            ("push_corrections_closed", [r for r in corrections if r["outcome"] in ("delivered", "accepted")], narrow),
            ("push_corrections_open", [r for r in corrections if r["outcome"] in ("parked", "rejected")], narrow),
        ):
            found |= {(metric, names): by(rows, names) for names in crossings(dimensions)}
        for names in crossings(narrow):
            found["push_within_deadline_share", names] = zeroed(by(within, names), by(timely, names), by(timely, names))
            for share in (50, 95):
                found[f"push_seconds_p{share}", names] = by(outcome["delivered"], names, ranked(share))
        return found

    def _once(self) -> list[dict[str, Any]]:
        """Return each receipt once, the first of its kind, with what it says of the clock."""
        first: dict[tuple[Any, ...], dict[str, Any]] = {}
        for one in self.receipts:
            key = (one["agency"], one["cursor"], one["outcome"], one["event_id"])
            if key not in first:
                first[key] = told(one)
        return list(first.values())

    def _within(self, at: datetime) -> bool:
        return start((self.year, self.month)) <= at < self._end()

    def _end(self) -> datetime:
        return start((self.year + self.month // 12, self.month % 12 + 1))

    def _last_follow_ups(self) -> list[dict[str, Any]]:
        """Return the last word on each delivery of a follow-up by the month's end."""
        last: dict[tuple[Any, Any], dict[str, Any]] = {}
        for row in self._once():
            key = (row["agency"], row["cursor"])
            if row["at"] < self._end() and (key not in last or row["at"] > last[key]["at"]):
                last[key] = row
        return [row for row in last.values() if row["event_type"] in FOLLOW_UPS]


def told(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return a receipt's dimensions, when it ended, how long it took, and whether that was in time."""
    at = datetime.fromisoformat(one["last_at"]).astimezone(CHINA)
    published = datetime.fromisoformat(one["published_at"]).astimezone(CHINA) if one["published_at"] else None
    limit = DEADLINES[one["type"]]
    deadline = "none"
    if limit is not None and published is not None:
        deadline = "within" if at.date() <= working_days_after(published.date(), limit) else "after"
    seconds = None if published is None else round(max(0.0, (at - published).total_seconds()), 3)
    return {
        "cursor": one["cursor"],
        "publisher": one["source"],
        "agency": one["agency"],
        "event_type": one["type"],
        "channel": one["channel"],
        "outcome": one["outcome"],
        "at": at,
        "seconds": seconds,
        "deadline": deadline,
    }


@cache
def working_days() -> frozenset[date]:
    """Return the days that are worked."""
    with WORKING_DAYS.open(encoding="utf-8") as file:
        return frozenset(
            date.fromisoformat(row["date"]) for row in csv.DictReader(file) if row["is_working_day"] == "true"
        )


def working_days_after(day: date, count: int) -> date:
    """Return the day so many working days later; the day itself is day 0."""
    while count:
        day += timedelta(days=1)
        count -= day in working_days()
    return day


def ranked(share: int) -> Measure:
    """Return the measure that so many per cent of the deliveries do not exceed (nearest rank)."""

    def measure(rows: Sequence[Any]) -> Decimal | None:
        told = sorted(row["seconds"] for row in rows if row["seconds"] is not None)
        return Decimal(str(told[math.ceil(share * len(told) / 100) - 1])) if told else None

    return measure
