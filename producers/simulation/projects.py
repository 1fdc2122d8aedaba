"""The enterprise centre: requests for service by section, and the cases of major projects with funds and durations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal

from producers.simulation.calendar import is_working_day
from producers.simulation.departments import departments
from producers.simulation.ground import Ground
from producers.simulation.scribe import Row, SimulatedFile, time_of
from schemas.times import SHANGHAI

START = "cn.gov.sc.enterprise"
LEGAL_DAYS = (15, 20, 20, 30, 45)
WITHOUT_LIMITS = 3
CARRIED = 8
EDGES = 4
MEAN_FUNDS_FEN = 3_000_000_000


@dataclass(frozen=True, slots=True)
class Term:
    """How long a case may take and took, in working days; None where the item has no limit."""

    legal: int | None
    actual: int


def projects(ground: Ground) -> list[SimulatedFile]:
    """Return the files of requests and of project cases."""
    opened = list(_requests(ground))
    accepted, completed = _cases(ground)
    write, repeats = ground.scribe.file, ground.scribe.with_repeats
    return [
        write(f"{START}.service.request.opened", repeats(opened, 0.01)),
        write(f"{START}.service.request.closed", _closed(ground, opened)),
        write(f"{START}.project.case.accepted", repeats(accepted, 0.05)),
        write(f"{START}.project.case.completed", repeats(completed, 0.05)),
    ]


def _requests(ground: Ground) -> Iterator[Row]:
    targets = ground.targets
    one_to_one = max(1, min(targets["project_one_to_one"], targets["project_services"]))
    plan = [(ground.choose(("finance", "science", "law")), "") for _ in range(targets["center_consultations"])]
    plan += [("policy", "")] * targets["policy_consultations"]
    plan += [
        ("project", f"{ground.prefix}-G{number % one_to_one:03d}") for number in range(targets["project_services"])
    ]
    around = [("law", ""), ("policy", ""), ("project", f"{ground.prefix}-G900"), ("science", "")]
    times = [(one, ground.year) for one in plan]
    times += [(one, within) for one in around for within in (ground.before_year, ground.after)]
    for serial, ((section, project), within) in enumerate(times, start=1):
        known = ground.random.random() < 0.7
        yield {
            "request_no": f"{ground.prefix}-Q{serial:04d}",
            "section": section,
            **(ground.enterprise(500 + serial % 90) if known else {"enterprise_uscc": "", "enterprise_name": ""}),
            "project_code": project,
            "division": ground.choose(ground.cities),
            "subject_text": "合成诉求 (synthetic)",
            "occurred_at": ground.scribe.written(ground.scribe.moment(within, office_hours=True)),
        }


def _closed(ground: Ground, opened: Sequence[Row]) -> list[Row]:
    rows = []
    for row in opened:
        if ground.random.random() < 0.9:
            at = time_of(row) + timedelta(minutes=ground.random.randint(5, 5000))
            kept = {name: text for name, text in row.items() if name != "subject_text"}
            result = ground.choose(("answered", "answered", "transferred", "withdrawn"))
            rows.append({**kept, "result": result, "occurred_at": ground.scribe.written(at)})
    return rows


def _cases(ground: Ground) -> tuple[list[Row], list[Row]]:
    """Return cases accepted and completed. Some were accepted the year before: 办结 is no subset."""
    accepted = sorted(_accepted(ground), key=time_of)
    completed = []
    terms = _terms(ground)
    carried = [_carried(ground, number, term) for number, term in enumerate(terms[:CARRIED])]
    waiting = list(terms[CARRIED:])
    for row in accepted:
        if waiting and (done := _finish(ground, row, waiting[-1])) is not None:
            completed.append(done)
            waiting.pop()
    # What could not end in time was accepted the year before.
    carried += [_carried(ground, CARRIED + number, term) for number, term in enumerate(waiting)]
    completed += carried
    on_record = [_acceptance(row) for row in carried[::2]]
    accepted += [*on_record, *_around(ground)]
    return accepted, completed


def _accepted(ground: Ground) -> list[Row]:
    """Return the year's cases: each project has one, some have more; funds are given with a project's first case."""
    targets = ground.targets
    count = targets["project_items_accepted"]
    key = min(targets["project_key_projects"], count)
    enterprises = min(targets["project_enterprises"], count)
    number_of_projects = max(key, enterprises)
    funds = ground.parts(targets["project_funds"], key)
    funds += [ground.random.randint(1, MEAN_FUNDS_FEN) for _ in range(number_of_projects - key)]
    of_case = [*range(number_of_projects)]
    of_case += [ground.random.randrange(number_of_projects) for _ in range(count - number_of_projects)]
    moments = sorted(ground.scribe.moment(ground.year, office_hours=True) for _ in of_case)
    ground.random.shuffle(of_case)
    seen: set[int] = set()
    rows = []
    for serial, (project, at) in enumerate(zip(of_case, moments, strict=True)):
        given = "" if project in seen else str(funds[project])
        seen.add(project)
        enterprise = ground.enterprise(600 + project % enterprises)
        rows.append(_case(ground, f"{serial:04d}", project, project < key, given, at) | enterprise)
    return rows


def _case(ground: Ground, serial: str, project: int, key: bool, funds: str, at: datetime) -> dict[str, str]:
    department = ground.random.choice(departments())
    return {
        "case_no": f"{ground.prefix}-J{serial}",
        "project_code": f"{ground.prefix}-G{project:03d}",
        "project_name": f"合成项目{project} (synthetic)",
        "key_project": str(key).lower(),
        "funds_fen": funds,
        "section": "project",
        "task_code": department.task_codes[0],
        "department_code": department.code,
        "department_name": department.name,
        "division": ground.choose(ground.cities),
        "occurred_at": ground.scribe.written(at),
    }


def _finish(ground: Ground, accepted: Row, term: Term) -> Row | None:
    """Return the completion of a case; None when it would come after the period."""
    began = time_of(accepted)
    at = _after(began, term.actual) + timedelta(seconds=ground.random.randint(0, 3000))
    return _completion(ground, accepted, term, began, at) if at < ground.year[1] - timedelta(days=1) else None


def _carried(ground: Ground, number: int, term: Term) -> Row:
    """Return the completion, early in the year, of a case of the year before."""
    within = max(1, term.actual)
    first = _after(ground.year[0], ground.random.randint(0, within - 1) if term.actual > 1 else 0)
    at = datetime.combine(first.astimezone(SHANGHAI).date(), time(10), SHANGHAI)
    began = _before(at, term.actual)
    while began >= ground.year[0]:
        began -= timedelta(days=1)
    row = _case(ground, f"9{number:03d}", 800 + number, True, str(MEAN_FUNDS_FEN), began)
    return _completion(ground, row | ground.enterprise(800 + number), term, began, at)


def _completion(ground: Ground, accepted: Row, term: Term, began: datetime, at: datetime) -> Row:
    limits = {"legal_days": "", "promised_days": "", "actual_days": ""}
    if term.legal is not None:
        promised = str(max(1, term.legal * 2 // 3))
        limits = {"legal_days": str(term.legal), "promised_days": promised, "actual_days": str(term.actual)}
    written = {"accepted_at": began.astimezone(SHANGHAI).isoformat(), "occurred_at": ground.scribe.written(at)}
    return {**accepted, **written, **limits, "result": ground.choose(("granted", "granted", "granted", "refused"))}


def _acceptance(completed: Row) -> Row:
    dropped = ("accepted_at", "legal_days", "promised_days", "actual_days", "result")
    row = {name: text for name, text in completed.items() if name not in dropped}
    return {**row, "occurred_at": completed["accepted_at"]}


def _around(ground: Ground) -> Iterator[Row]:
    for number in range(EDGES):
        within = ground.before_year if number % 2 else ground.after
        at = ground.scribe.moment(within, office_hours=True)
        yield _case(ground, f"8{number:03d}", 900 + number, True, str(MEAN_FUNDS_FEN), at) | ground.enterprise(850)


def _terms(ground: Ground) -> list[Term]:
    """Return limits and times taken whose speed-up, weighted by the limits, lies in the rate's bounds."""
    count = ground.targets["project_items_completed"]
    without = min(WITHOUT_LIMITS, count - 1)
    legal = [ground.random.choice(LEGAL_DAYS) for _ in range(count - without)]
    share = Decimal(1) - (ground.rate[0] + ground.rate[1]) / 2
    for _ in range(1000):
        taken = round(sum(legal) * share)
        if ground.rate[0] <= 1 - Decimal(taken) / sum(legal) < ground.rate[1]:
            break
        legal[ground.random.randrange(len(legal))] = ground.random.choice(LEGAL_DAYS)
    actual = _spread(ground, legal, taken, float(share))
    terms = [Term(limit, took) for limit, took in zip(legal, actual, strict=True)]
    terms += [Term(None, ground.random.randint(1, 9)) for _ in range(without)]
    ground.random.shuffle(terms)
    return terms


def _spread(ground: Ground, legal: Sequence[int], total: int, share: float) -> list[int]:
    """Part the days taken: about the same share of each limit, none without a day, a few over the limit."""
    actual = [max(1, round(limit * share * ground.random.uniform(0.4, 1.6))) for limit in legal]
    while (rest := total - sum(actual)) != 0:
        at = ground.random.randrange(len(actual))
        step = 1 if rest > 0 else -1
        actual[at] = max(1, actual[at] + step)
    return actual


def _after(at: datetime, days: int) -> datetime:
    """Return the same time that many working days later."""
    return _moved(at, days, timedelta(days=1))


def _before(at: datetime, days: int) -> datetime:
    return _moved(at, days, timedelta(days=-1))


def _moved(at: datetime, days: int, step: timedelta) -> datetime:
    found = at
    left = days
    while left > 0:
        found += step
        left -= is_working_day(_day(found))
    return found


def _day(at: datetime) -> date:
    return at.astimezone(SHANGHAI).date()
