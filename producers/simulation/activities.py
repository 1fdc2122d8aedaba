"""Meetings, trainings and fairs: who held them, of which programme, and who came."""

from __future__ import annotations

from collections.abc import Mapping

from producers.simulation.departments import departments, simulated_code
from producers.simulation.ground import Ground
from producers.simulation.scribe import Period, Row, SimulatedFile

TYPE = "cn.gov.sc.activity.held"
CENTRE = simulated_code("12", 1), "省政务服务中心 (synthetic)"
VALUE_ADDED = "涉企增值服务"
ATTENDED: Mapping[str, tuple[str, str, str, int]] = {
    # metric: (programme, kind, who is counted, over how many activities)
    "livelihood_map_departments": ("民生服务一张图", "meeting", "department_count", 1),
    "policy_dispatch_departments": ("惠企政策调度", "meeting", "department_count", 1),
    "policy_briefing_enterprises": ("惠企政策宣讲", "promotion", "enterprise_count", 3),
    "policy_app_divisions": ("天府易享应用", "training", "division_count", 1),
}
OTHER_PROGRAMMES = ("宪法宣传进大厅", "安全生产审批培训", "供需对接", "影视剧协审")


def activities(ground: Ground) -> list[SimulatedFile]:
    """Return the file of activities."""
    rows: list[Row] = []
    for metric, (programme, kind, counted, over) in ATTENDED.items():
        for number in ground.parts(ground.targets[metric], over):
            rows.append(_held(ground, len(rows), programme, kind, ground.month, {counted: str(number)}))
        # The same programme met before the month and after it.
        for around in ((ground.year[0], ground.month[0]), ground.after):
            if around[0] < around[1]:
                rows.append(_held(ground, len(rows), programme, kind, around, {counted: "7"}))
    for _ in range(ground.targets["value_added_activities"]):
        kind = ground.choose(("training", "fair", "promotion"))
        rows.append(_held(ground, len(rows), VALUE_ADDED, kind, ground.year, {"attendance": "40"}))
    for around in (ground.before_year, ground.before_year, ground.after):
        rows.append(_held(ground, len(rows), VALUE_ADDED, "fair", around, {}))
    for programme in OTHER_PROGRAMMES:
        about = {"attendance_text": "300余人", "attendance_approximate": "true", "department_count": "9"}
        rows.append(_held(ground, len(rows), programme, "training", ground.month, about))
    return [ground.scribe.file(TYPE, ground.scribe.with_repeats(rows, 0.1), "held_on")]


def _held(ground: Ground, serial: int, programme: str, kind: str, within: Period, counts: Row) -> Row:
    department = ground.random.choice(departments())
    organiser = CENTRE if programme == VALUE_ADDED else (department.code, department.name)
    row = {
        "activity_no": f"{ground.prefix}-A{serial:03d}",
        "kind": kind,
        "title": f"{programme}活动 (synthetic)",
        "organiser_code": organiser[0],
        "organiser_name": organiser[1],
        "held_on": ground.scribe.day(within).isoformat(),
        "place": "合成会场",
        "programme": programme,
    }
    columns = ("attendance", "attendance_text", "attendance_approximate", "department_count", "division_count")
    return {**row, **dict.fromkeys((*columns, "enterprise_count"), ""), **counts}
