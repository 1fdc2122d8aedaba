"""The three lists of systems: decided, revised and checked; and the dimensions that systems are assessed by."""

from __future__ import annotations

from producers.simulation.departments import simulated_code
from producers.simulation.ground import PROVINCE, Ground
from producers.simulation.scribe import Period, Row, SimulatedFile
from schemas.formats import divisions

START = "cn.gov.sc.inventory"
NATURAL_RESOURCES = "自然资源"
DIMENSIONS = ("基础支撑", "系统活跃", "数据共享", "业务支撑", "功能重复")
DECISIONS = ("keep", "merge", "retire")
REVISED_SHARE = 0.3
# Numbers of made-up codes: the window departments have those below.
FIRST_PROVINCIAL, FIRST_CITY, FIRST_PILOT = 100, 300, 400

Counts = dict[str, int]


def inventories(ground: Ground) -> list[SimulatedFile]:
    """Return the files of decided, revised and checked inventories, and of dimensions."""
    decided: list[Row] = []
    revised: list[Row] = []
    begin, end = ground.year
    first: Period = (begin, begin + (end - begin) / 2)
    second: Period = (first[1], end)
    for owner, counts in _owners(ground):
        if not decided or (_is_pilot(owner) and ground.random.random() < REVISED_SHARE):
            # What was decided first was revised: the last word counts, and only that.
            decided.append(_listed(ground, owner, {**counts, "keep": counts["keep"] + 2}, first))
            revised.append(_listed(ground, owner, counts, second) | {"reason": "校核后调整 (synthetic)"})
        else:
            decided.append(_listed(ground, owner, counts, (begin, end)))
    late = [_listed(ground, _owner(row), dict.fromkeys(DECISIONS, 1), ground.after) for row in decided[:3]]
    revised += [row | {"reason": "月后调整 (synthetic)"} for row in late]
    repeats = ground.scribe.with_repeats
    return [
        ground.scribe.file(f"{START}.decided", repeats(decided, 0.05), "decided_on"),
        ground.scribe.file(f"{START}.revised", revised, "decided_on"),
        ground.scribe.file(f"{START}.checked", repeats(_checks(ground), 0.05), "checked_on"),
        ground.scribe.file(f"{START}.dimension.adopted", _dimensions(ground), "adopted_on"),
    ]


def _owners(ground: Ground) -> list[tuple[Row, Counts]]:
    """Return all owners of inventories with their counts: the pilot's own, provincial ones, cities and the pilot's."""
    targets = ground.targets
    pilot = _named(simulated_code("11", FIRST_PILOT), "自然资源厅 (synthetic)", "province", PROVINCE, NATURAL_RESOURCES)
    found = [(pilot, {one: targets[f"natres_provincial_{one}"] for one in DECISIONS})]
    for number in range(1, targets["inventory_draft_provincial_departments"]):
        code = simulated_code("11", FIRST_PROVINCIAL + number)
        found.append((_named(code, f"合成省直部门{number} (synthetic)", "province", PROVINCE), _any_counts(ground)))
    cities = ground.cities[: targets["inventory_draft_divisions"]]
    # At most as many cities as each has something to list.
    parts = {one: ground.parts(targets[f"natres_division_{one}"], len(cities)) for one in DECISIONS}
    for number, division in enumerate(cities):
        name = divisions()[division]
        own = simulated_code("11", FIRST_CITY + number, division)
        found.append((_named(own, f"{name}数据主管部门 (synthetic)", "city", division), _any_counts(ground)))
        code = simulated_code("11", FIRST_PILOT + 1 + number, division)
        counts = {one: parts[one][number] if number < len(parts[one]) else 0 for one in DECISIONS}
        bureau = _named(code, f"{name}自然资源主管部门 (synthetic)", "city", division, NATURAL_RESOURCES)
        found.append((bureau, counts))
    return found


def _checks(ground: Ground) -> list[Row]:
    numbers = range(1, ground.targets["inventory_first_check_departments"] + 1)
    rows = []
    for number in numbers:
        # Which departments are checked first is not said to be those whose lists are drafted.
        code = simulated_code("11", FIRST_PROVINCIAL + number + 2)
        owner = _named(code, f"合成省直部门{number + 2} (synthetic)", "province", PROVINCE)
        rounds = 2 if number % 6 == 0 else 1
        rows += [_checked(ground, owner, one, ground.year) for one in range(1, rounds + 1)]
    late = _named(simulated_code("11", FIRST_PROVINCIAL + 99), "合成省直部门99 (synthetic)", "province", PROVINCE)
    city = _named(simulated_code("11", FIRST_CITY, ground.cities[0]), "合成市级部门", "city", ground.cities[0])
    return [*rows, _checked(ground, late, 1, ground.after), _checked(ground, city, 1, ground.year)]


def _dimensions(ground: Ground) -> list[Row]:
    count = ground.targets["assessment_dimensions"]
    begin, end = ground.year
    rows = []
    for number in range(count):
        # Each was adopted twice: the second version of the rules keeps the dimension.
        for version, within in (("1.0", (begin, begin + (end - begin) / 2)), ("2.0", (begin + (end - begin) / 2, end))):
            name = DIMENSIONS[number] if number < len(DIMENSIONS) else f"合成维度{number + 1}"
            rows.append(
                {
                    "dimension_code": f"SYN-DIM-{number + 1}",
                    "dimension_name": name,
                    "rules_version": version,
                    "adopted_on": ground.scribe.day(within).isoformat(),
                }
            )
    return rows


def _listed(ground: Ground, owner: Row, counts: Counts, within: Period) -> dict[str, str]:
    numbers = {one: str(counts[one]) for one in DECISIONS}
    total = str(sum(counts[one] for one in DECISIONS))
    return {**owner, "total": total, **numbers, "decided_on": ground.scribe.day(within).isoformat()}


def _checked(ground: Ground, owner: Row, number: int, within: Period) -> Row:
    conclusion = ground.choose(("passed", "passed", "returned"))
    day = ground.scribe.day(within).isoformat()
    return {**owner, "round": str(number), "conclusion": conclusion, "checked_on": day}


def _any_counts(ground: Ground) -> Counts:
    return {"keep": ground.random.randint(3, 30), "merge": ground.random.randint(0, 4), "retire": 1}


def _named(code: str, name: str, level: str, division: str, sector: str = "") -> Row:
    return {"owner_code": code, "owner_name": name, "level": level, "division": division, "sector": sector}


def _owner(row: Row) -> Row:
    return {name: row[name] for name in ("owner_code", "owner_name", "level", "division", "sector")}


def _is_pilot(owner: Row) -> bool:
    return owner["sector"] == NATURAL_RESOURCES and owner["level"] == "city"
