"""A month of case-level events, synthetic and seeded, whose totals are known only to whoever made it.

It has what real months have: carried-over cases (so that 办结 exceeds 受理), some with the earlier acceptance on file;
events of the hour before and after the month and of its first and last second; cases of cities; events reported twice;
re-opened cases that are completed a second time; and times without an offset.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from random import Random

from producers.simulation.departments import SimulatedDepartment, departments
from producers.simulation.scribe import Row, Scribe, SimulatedFile, time_of
from producers.simulation.targets import Targets, targets
from schemas.formats import divisions
from schemas.times import month_bounds

TYPE_START = "cn.gov.sc.window"
EDGE_CASES = 12
CARRIED_ON_RECORD_SHARE = 0.3
CITY_SHARE = 0.005
LONGEST_HANDLING = timedelta(days=12)
SECOND = timedelta(seconds=1)
LIMITS = {"legal_days": "20", "promised_days": "10"}
REOPENED_SHARE = 0.003
WITHDRAWN_SHARE = 0.002
TOLD_LATE_SHARE = 0.002
INTEGRATED_ONLINE_SHARE = 0.6


class MonthMaker:
    """Makes one month."""

    def __init__(self, year: int, month: int, seed: int, scale: float) -> None:
        self._month = f"{year}-{month:02d}"
        self._random = Random(f"{self._month}/{seed}")  # noqa: S311  (a simulation, not a secret)
        self._within = self._from, self._to = month_bounds(year, month)
        self._scribe = Scribe(self._random)
        self._departments = departments()
        self._weights = [d.share for d in self._departments]
        self._divisions = [code for code in divisions() if code != "510000"]
        self._serial = 0
        self.targets: Targets = targets(self._month, self._random, scale)

    def files(self) -> list[SimulatedFile]:
        """Return the month's files, most rows in the order of their times."""
        accepted, completed = self._cases()
        return [
            self._file("case.accepted", accepted),
            self._file("case.completed", completed),
            self._file("case.withdrawn", self._withdrawn(accepted, completed)),
            self._results("result.issued", completed, ("outlet", "window", "cabinet"), self.targets.window_issued),
            self._results("result.mailed", completed, ("origin", "hall", "department"), self.targets.hall_mailed),
            self._file("consultation.recorded", self._contacts()),
        ]

    def late_files(self, files: Sequence[SimulatedFile]) -> list[SimulatedFile]:
        """Return what departments tell of the month once it is closed: its cases and contacts, and earlier completions.

        ``files`` are the month's own. A case that was completed in the month before already leaves the month again.
        """
        rows = {file.type.removeprefix(f"{TYPE_START}."): file.rows for file in files}
        count = max(2, round(len(rows["case.completed"]) * TOLD_LATE_SHARE))
        accepted = [self._case("online", "online", self._scribe.moment(self._within)) for _ in range(count)]
        on_record = {row["project_no"] for row in rows["case.accepted"]}
        carried = {
            row["project_no"]: row
            for row in rows["case.completed"]
            if row["project_no"] not in on_record and self._from <= time_of(row) < self._to
        }
        earlier = self._random.sample(list(carried.values()), min(len(carried), max(1, count // 2)))
        completed = [self._finish(row) for row in accepted] + [self._completed_before(row) for row in earlier]
        contacts = [self._contact("phone", 1, self._scribe.moment(self._within, office_hours=True)) for _ in accepted]
        return [
            self._file("case.accepted", accepted),
            self._file("case.completed", completed),
            self._file("consultation.recorded", contacts),
        ]

    def _completed_before(self, completed: Row) -> Row:
        at = self._from - timedelta(minutes=self._random.randint(60, 60 * 24 * 20))
        return {**completed, "occurred_at": self._scribe.written(at)}

    def _cases(self) -> tuple[list[Row], list[Row]]:
        accepted = self._accepted()
        completed, carried = self._completed(accepted)
        completed += self._reopened(completed)
        outside = list(self._outside())
        accepted += [self._case("online", "online", at) for at in outside]
        completed += [self._carried("online", "online", at) for at in outside]
        accepted += [self._accepted_before(row) for row in carried if self._random.random() < CARRIED_ON_RECORD_SHARE]
        cities = [self._city_case() for _ in range(round(self.targets.online_accepted * CITY_SHARE))]
        accepted += cities
        completed += [self._finish(row) for row in cities]
        return self._scribe.with_repeats(accepted), self._scribe.with_repeats(completed)

    def _accepted(self) -> list[Row]:
        want = self.targets
        # The integrated window takes in cases of both kinds: channels overlap, and may not be added.
        both = min(round(want.integrated_window_accepted * INTEGRATED_ONLINE_SHARE), want.online_accepted)
        times = [self._scribe.moment(self._within) for _ in range(want.online_accepted)]
        # The first and the last second of the month belong to it.
        times[-2:] = [self._from, self._to - SECOND]
        rows = [
            self._case("online", "integrated_window" if n < both else "online", at)
            for n, at in enumerate(times[-want.online_accepted :])
        ]
        at_windows = want.integrated_window_accepted - both
        return rows + [
            self._case("window", "integrated_window", self._scribe.moment(self._within, office_hours=True))
            for _ in range(at_windows)
        ]

    def _completed(self, accepted: Sequence[Row]) -> tuple[list[Row], list[Row]]:
        """Return the completions, and those of them whose cases were accepted in earlier months."""
        want = self.targets
        finished = self._random.sample(accepted, min(len(accepted), int(want.online_completed * 0.9)))
        online = [row for row in finished if row["handling"] == "online"][: want.online_completed]
        offline = [row for row in finished if row["handling"] == "window"][: want.offline_completed]
        carried = [
            self._carried("online", "online", self._scribe.moment(self._within))
            for _ in range(want.online_completed - len(online))
        ]
        carried += [
            self._carried("window", "department_window", self._scribe.moment(self._within, office_hours=True))
            for _ in range(want.offline_completed - len(offline))
        ]
        return [*map(self._finish, [*online, *offline]), *carried], carried

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
            "occurred_at": self._scribe.written(at),
        }

    def _finish(self, accepted: Row) -> Row:
        began = time_of(accepted)
        latest = max(began, min(began + LONGEST_HANDLING, self._to - SECOND))
        at = began + (latest - began) * self._random.random()
        taken = {**LIMITS, "actual_days": str((at - began).days)}
        return {**accepted, "occurred_at": self._scribe.written(at), "result": self._result(), **taken}

    def _carried(self, handling: str, intake: str, at: datetime) -> Row:
        case = self._case(handling, intake, at)
        taken = {**LIMITS, "actual_days": str(LONGEST_HANDLING.days + int(case["project_no"][-2:]) % 6)}
        return {**case, "result": self._result(), **taken}

    def _accepted_before(self, completed: Row) -> Row:
        """Return the acceptance, weeks before the month, of a case that is completed in it."""
        at = self._from - timedelta(minutes=self._random.randint(60, 60 * 24 * 40))
        accepted = {name: text for name, text in completed.items() if name not in {"result", *LIMITS, "actual_days"}}
        return {**accepted, "occurred_at": self._scribe.written(at)}

    def _city_case(self) -> Row:
        """Return a case of a city's own authority, which no figure of the provincial level counts."""
        row = self._case("online", "online", self._scribe.moment(self._within))
        return {**row, "level": "city", "division": self._random.choice(self._divisions)}

    def _reopened(self, completed: Sequence[Row]) -> list[Row]:
        """Complete some cases a second time, later in the month: they may not count twice."""
        open_still = [row for row in completed if time_of(row) < self._to - timedelta(days=1)]
        again = self._random.sample(open_still, int(len(open_still) * REOPENED_SHARE))
        return [self._finish({**row, "occurred_at": _later(row)}) for row in again]

    def _withdrawn(self, accepted: Sequence[Row], completed: Sequence[Row]) -> list[Row]:
        """Withdraw some of the cases that are still open."""
        done = {row["project_no"] for row in completed}
        before = self._to - timedelta(hours=1)
        still = [row for row in accepted if row["project_no"] not in done and self._from <= time_of(row) < before]
        return [self._withdraw(row) for row in self._random.sample(still, int(len(accepted) * WITHDRAWN_SHARE))]

    def _withdraw(self, accepted: Row) -> Row:
        began = time_of(accepted)
        at = began + (self._to - SECOND - began) * self._random.random()
        row = {name: text for name, text in accepted.items() if name not in {"handling", "intake"}}
        reason = self._random.choice(("applicant", "applicant", "incomplete", "other"))
        return {**row, "occurred_at": self._scribe.written(at), "reason_code": reason}

    def _outside(self) -> Iterator[datetime]:
        """Give moments around the month, the last second before it and the first after it among them."""
        yield self._from - SECOND
        yield self._to
        for _ in range(EDGE_CASES - 1):
            yield self._from - timedelta(seconds=self._random.randint(2, 3600))
            yield self._to + timedelta(seconds=self._random.randint(1, 3600))

    def _results(self, name: str, completed: Sequence[Row], field: tuple[str, str, str], count: int) -> SimulatedFile:
        """Hand out or mail results of completed cases, a tenth more in another way that does not count."""
        column, counted, other = field
        ways = [counted] * count + [other] * (count // 10)
        times = [self._scribe.moment(self._within, office_hours=True) for _ in ways]
        outside = list(self._outside())
        rows: list[Row] = [
            self._result_of(self._random.choice(completed), {column: way}, at)
            for way, at in zip([*ways, *[counted] * len(outside)], [*times, *outside], strict=True)
        ]
        return self._file(name, self._scribe.with_repeats(rows))

    def _result_of(self, completed: Row, way: Row, at: datetime) -> Row:
        """Return a result; one of a case not completed by then is of an earlier case that was carried over."""
        self._serial += 1
        earlier = f"SYN-{self._month.replace('-', '')}-{self._serial:07d}"
        return {
            "project_no": completed["project_no"] if time_of(completed) < at else earlier,
            "department_code": completed["department_code"],
            "department_name": completed["department_name"],
            **way,
            "division": completed["division"],
            "occurred_at": self._scribe.written(at),
        }

    def _contacts(self) -> list[Row]:
        return self._scribe.with_repeats([*self._consultations(), *self._contacts_outside()])

    def _consultations(self) -> Iterator[Row]:
        for mode, total in (("phone", self.targets.consult_phone), ("onsite", self.targets.consult_onsite)):
            left = total
            while left > 0:
                count = min(left, self._random.choice((1, 1, 1, 1, 2, 3)))
                left -= count
                yield self._contact(mode, count, self._scribe.moment(self._within, office_hours=True))

    def _contacts_outside(self) -> Iterator[Row]:
        for at in self._outside():
            yield self._contact(self._random.choice(("phone", "onsite")), 1, at)

    def _contact(self, mode: str, count: int, at: datetime) -> Row:
        department = self._department()
        self._serial += 1
        return {
            "record_no": f"SYN-C-{self._month.replace('-', '')}-{self._serial:07d}",
            "department_code": department.code,
            "department_name": department.name,
            "mode": mode,
            "count": str(count),
            "division": self._division(),
            "occurred_at": self._scribe.written(at),
        }

    def _department(self) -> SimulatedDepartment:
        return self._random.choices(self._departments, self._weights)[0]

    def _division(self) -> str:
        return "510000" if self._random.random() < 0.55 else self._random.choice(self._divisions)

    def _result(self) -> str:
        return self._random.choices(("granted", "refused", "other"), (95, 3, 2))[0]

    def _file(self, name: str, rows: Sequence[Row]) -> SimulatedFile:
        return self._scribe.file(f"{TYPE_START}.{name}", rows)


def _later(row: Row) -> str:
    return (time_of(row) + timedelta(hours=1)).isoformat()
