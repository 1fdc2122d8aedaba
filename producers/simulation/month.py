"""A month of case-level events, synthetic and seeded, whose totals are known only to whoever made it.

It has what real months have: carried-over cases (so that 办结 exceeds 受理), cases of the hour before and after the
month, cases reported twice, re-opened cases that are completed a second time, and times without an offset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random

from producers.simulation.departments import SimulatedDepartment, departments
from producers.simulation.targets import Targets, targets
from schemas.formats import divisions
from schemas.times import SHANGHAI, month_bounds

TYPE_START = "cn.gov.sc.window"
EDGE_CASES = 12
REPEATED_SHARE = 0.002
REOPENED_SHARE = 0.003
NAIVE_SHARE = 0.05
INTEGRATED_ONLINE_SHARE = 0.6

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class MonthFile:
    """The rows of one event type."""

    type: str
    rows: Sequence[Row]


class MonthMaker:
    """Makes one month."""

    def __init__(self, year: int, month: int, seed: int, scale: float) -> None:
        self._month = f"{year}-{month:02d}"
        self._random = Random(f"{self._month}/{seed}")  # noqa: S311  (a simulation, not a secret)
        self._from, self._to = month_bounds(year, month)
        self._departments = departments()
        self._weights = [d.share for d in self._departments]
        self._divisions = [code for code in divisions() if code != "510000"]
        self._serial = 0
        self.targets: Targets = targets(self._month, self._random, scale)

    def files(self) -> list[MonthFile]:
        """Return the month's files, rows in the order of their times."""
        accepted, completed = self._cases()
        return [
            _file("case.accepted", accepted),
            _file("case.completed", completed),
            _file("result.issued", list(self._results("outlet", "window", "cabinet", self.targets.window_issued))),
            _file("result.mailed", list(self._results("origin", "hall", "department", self.targets.hall_mailed))),
            _file("consultation.recorded", list(self._consultations())),
        ]

    def _cases(self) -> tuple[list[Row], list[Row]]:
        want = self.targets
        accepted: list[Row] = []
        completed: list[Row] = []
        # The integrated window takes in cases of both kinds: channels overlap, and may not be added.
        integrated_online = round(want.integrated_window_accepted * INTEGRATED_ONLINE_SHARE)
        integrated_online = min(integrated_online, want.online_accepted)
        for n in range(want.online_accepted):
            intake = "integrated_window" if n < integrated_online else "online"
            accepted.append(self._case("online", intake, self._moment()))
        for _ in range(want.integrated_window_accepted - integrated_online):
            accepted.append(self._case("window", "integrated_window", self._moment(office_hours=True)))
        finished = self._random.sample(accepted, min(len(accepted), int(want.online_completed * 0.9)))
        online = [self._finish(row) for row in finished if row["handling"] == "online"]
        offline = [self._finish(row) for row in finished if row["handling"] == "window"][: want.offline_completed]
        # The rest of the completions were accepted in earlier months.
        online += [self._carried("online", "online") for _ in range(want.online_completed - len(online))]
        offline += [self._carried("window", "department_window") for _ in range(want.offline_completed - len(offline))]
        completed = [*online[: want.online_completed], *offline]
        completed += self._reopened(completed)
        accepted += self._edges("online", "online")
        completed += [{**row, "result": self._result()} for row in self._edges("online", "online")]
        return self._with_repeats(accepted), self._with_repeats(completed)

    def _case(self, handling: str, intake: str, at: datetime) -> Row:
        department = self._department()
        self._serial += 1
        return {
            "project_no": f"SYN-{self._month.replace('-', '')}-{self._serial:07d}",
            "task_code": self._random.choice(department.task_codes),
            "department_code": department.code,
            "department_name": department.name,
            "handling": handling,
            "intake": intake,
            "level": "province",
            "division": self._division(),
            "occurred_at": self._written(at),
        }

    def _finish(self, accepted: Row) -> Row:
        began = datetime.fromisoformat(accepted["occurred_at"])
        began = began if began.tzinfo else began.replace(tzinfo=SHANGHAI)
        latest = min(began + timedelta(days=12), self._to - timedelta(seconds=1))
        at = began + (latest - began) * self._random.random()
        return {**accepted, "occurred_at": self._written(at), "result": self._result()}

    def _carried(self, handling: str, intake: str) -> Row:
        return {**self._case(handling, intake, self._moment()), "result": self._result()}

    def _reopened(self, completed: Sequence[Row]) -> list[Row]:
        """Complete some cases a second time, later in the month: they may not count twice."""
        again = self._random.sample(completed, int(len(completed) * REOPENED_SHARE))
        return [self._finish(row) for row in again]

    def _edges(self, handling: str, intake: str) -> list[Row]:
        """Return cases of the minutes outside the month, on both sides: none may count."""
        before = [self._from - timedelta(minutes=self._random.randint(1, 59)) for _ in range(EDGE_CASES)]
        after = [self._to + timedelta(minutes=self._random.randint(0, 59)) for _ in range(EDGE_CASES)]
        return [self._case(handling, intake, at) for at in (*before, *after)]

    def _results(self, field: str, counted: str, other: str, count: int) -> Iterator[Row]:
        for n in range(count + count // 10):
            department = self._department()
            self._serial += 1
            yield {
                "project_no": f"SYN-{self._month.replace('-', '')}-{self._serial:07d}",
                "department_code": department.code,
                "department_name": department.name,
                field: counted if n < count else other,
                "division": self._division(),
                "occurred_at": self._written(self._moment(office_hours=True)),
            }

    def _consultations(self) -> Iterator[Row]:
        for mode, total in (("phone", self.targets.consult_phone), ("onsite", self.targets.consult_onsite)):
            left = total
            while left > 0:
                count = min(left, self._random.choice((1, 1, 1, 1, 2, 3)))
                left -= count
                department = self._department()
                self._serial += 1
                yield {
                    "record_no": f"SYN-C-{self._month.replace('-', '')}-{self._serial:07d}",
                    "department_code": department.code,
                    "department_name": department.name,
                    "mode": mode,
                    "count": str(count),
                    "division": self._division(),
                    "occurred_at": self._written(self._moment(office_hours=True)),
                }

    def _with_repeats(self, rows: list[Row]) -> list[Row]:
        """Report some cases twice, word for word."""
        return [*rows, *self._random.sample(rows, int(len(rows) * REPEATED_SHARE))]

    def _department(self) -> SimulatedDepartment:
        return self._random.choices(self._departments, self._weights)[0]

    def _division(self) -> str:
        return "510000" if self._random.random() < 0.55 else self._random.choice(self._divisions)

    def _result(self) -> str:
        return self._random.choices(("granted", "refused", "other"), (95, 3, 2))[0]

    def _moment(self, *, office_hours: bool = False) -> datetime:
        """Return a moment of the month: windows work nine to five on weekdays, people apply online at all hours."""
        while True:
            at = self._from + (self._to - self._from) * self._random.random()
            local = at.astimezone(SHANGHAI)
            at_work = local.weekday() < 5 and 9 <= local.hour < 17
            if at_work or (not office_hours and self._random.random() < 0.25):
                return at.replace(microsecond=0)

    def _written(self, at: datetime) -> str:
        """Write a time as systems do: mostly with an offset, some in UTC, some without any."""
        local = at.astimezone(SHANGHAI).replace(microsecond=0)
        chance = self._random.random()
        if chance < NAIVE_SHARE:
            return local.replace(tzinfo=None).isoformat()
        return at.astimezone(UTC).replace(microsecond=0).isoformat() if chance < 0.1 else local.isoformat()


def _file(name: str, rows: list[Row]) -> MonthFile:
    return MonthFile(f"{TYPE_START}.{name}", sorted(rows, key=_time))


def _time(row: Row) -> datetime:
    at = datetime.fromisoformat(row["occurred_at"])
    return at if at.tzinfo else at.replace(tzinfo=SHANGHAI)
