"""What is wrong now: pure functions of what was looked at and of a moment, which return what should be open."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from schemas.times import SHANGHAI
from schemas.working_days import CalendarEndsError, add_working_days
from services.alerting.burn import HOUR_S, Burning, Deliveries, Ledger, burning
from services.alerting.ends import CONFIGURED
from services.delivery.lag import AgencyLag, GroupLag, OpenTransaction, ProbeLag, Snapshot, at_least
from services.runtime.alerts import OF_AGENCIES, Alert, AlertKind, Severity
from services.statistics.figure import Month
from services.statistics.gaps import Gap
from services.subscriptions.control import Agency, ControlView

EVERYBODY = "hongyan"
"""The subject of what concerns all agencies together, or the installation itself."""
_GIB = 1024.0**3
_GROUP_SAYS = {
    "stopped": "已停止，没有成员 (stopped: nobody is there)",
    "stalled": "停滞不前 (stalled)",
    "rewound": "被回退，正在重读 (rewound)",
    "slow": "跟不上 (too slow for what comes)",
}
_GRAVE = ("stopped", "stalled")
GRAVE_S = 60.0
"""A group that stands for a shorter time is a warning: one that is started anew, or on a busy machine, does so too."""


@dataclass(frozen=True, slots=True)
class Objective:
    """The delivery objective: which share in time, from how many late ones on, and what wait is an alert by itself."""

    share: float
    least: int
    behind_s: float


@dataclass(frozen=True, slots=True)
class Volume:
    """A disk, or the database where ``limit`` says how large it may be: bytes."""

    name: str
    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class Away:
    """A server that does not answer, or a look by its name that fails, since when and why."""

    server: str
    since: datetime
    why: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that is parked and was not put back; ``decided``: somebody wanted it so."""

    agency: str
    cursor: str
    event_id: str
    at: str
    reason: str
    decodable: bool


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A follow-up that an agency has not accepted yet, and the last day on which it may."""

    event: str
    agency: str
    deadline: date


def lagging(snapshot: Snapshot, ledgers: Mapping[str, Ledger], goal: Objective, now: datetime) -> list[Alert]:
    """Return whose error budget burns, and whose oldest event waits for too long while no line is held."""
    found: list[Alert] = []
    overdue_of_all = 0
    for one in snapshot.agencies:
        age_s = one.oldest_age_s or 0.0
        overdue = one.backlog if age_s > snapshot.objective_s and not one.held_decided else 0
        overdue_of_all += overdue
        ledger = ledgers.get(one.agency)
        burns = burning(ledger, overdue, goal.share, goal.least, now) if ledger else None
        if burns is not None:
            found.append(_burn_alert(one.agency, burns, snapshot.objective_s, goal, now))
        if age_s > goal.behind_s and one.held_since is None:
            found.append(_behind(one, now))
    everybody = ledgers.get(EVERYBODY)
    burns = burning(everybody, overdue_of_all, goal.share, goal.least, now) if everybody else None
    if burns is not None:
        found.append(_burn_alert(EVERYBODY, burns, snapshot.objective_s, goal, now))
    return found


def count(snapshot: Snapshot, ledgers: dict[str, Ledger], now: datetime) -> list[str]:
    """Take a snapshot's totals into the ledgers, of each agency and of all; return whose have changed.

    An agency that the snapshot does not name keeps its ledger: it is gone only where the configuration says so.
    """
    sums = Deliveries()
    changed = []
    for one in snapshot.agencies:
        ledger = ledgers.setdefault(one.agency, Ledger())
        more = ledger.total(now, Deliveries(one.taken_total, one.slow_total))
        sums += more
        if more.taken:
            changed.append(one.agency)
    ledgers.setdefault(EVERYBODY, Ledger()).add(now, sums)
    return [*changed, EVERYBODY] if changed else []


def _burn_alert(subject: str, burns: Burning, objective_s: float, goal: Objective, now: datetime) -> Alert:
    seen, hours = burns.seen, burns.pair.long_s / HOUR_S
    whose = "全部单位 (all agencies)" if subject == EVERYBODY else subject
    return Alert(
        AlertKind.LAG_BURNING,
        subject,
        now.isoformat(),
        f"{whose}：最近 {hours:g} 小时 {seen.taken} 个事件中 {seen.late} 个超过 {objective_s:g} 秒"
        f"（目标 {goal.share:.3%} 按时），误差预算按 {burns.rate:.1f} 倍速消耗 (budget burns at {burns.rate:.1f}x)",
        severity=burns.pair.severity,
    )


def _behind(one: AgencyLag, now: datetime) -> Alert:
    age, waiting = (one.oldest_age_s or 0.0) / 60, at_least(one.backlog, exact=one.backlog_exact)
    return Alert(
        AlertKind.AGENCY_BEHIND,
        one.agency,
        now.isoformat(),
        f"{one.agency}（{one.channel}）最早的事件已等 {age:.0f} 分钟，积压 {waiting} 个 "
        f"(the oldest event waits for {age:.0f} minutes)",
    )


def held(snapshot: Snapshot, open_alerts: Collection[Alert], now: datetime) -> list[Alert]:
    """Return whose line is held, not by decision; and of those that answered 410 the ones that still do not flow.

    What a table sink has told of the agency's own database is the sink's to take back. A line whose cursor is not on
    its log is told of by the pusher, with what to do about that.
    """
    open_gone = {one.subject for one in open_alerts if one.kind == AlertKind.AGENCY_GONE}
    astray = {one.subject for one in open_alerts if one.kind == AlertKind.FEED_GAP and not one.labels}
    into_tables = {one.agency for one in snapshot.agencies if one.channel == "table"}
    found = [one for one in open_alerts if one.kind == AlertKind.LINE_HELD and one.subject in into_tables]
    for one in snapshot.agencies:
        if one.held_since is None:
            continue
        if not one.held_decided and one.agency not in astray:
            found.append(Alert(AlertKind.LINE_HELD, one.agency, now.isoformat(), one.held_why or ""))
        if one.agency in open_gone:
            found.append(Alert(AlertKind.AGENCY_GONE, one.agency, now.isoformat(), one.held_why or ""))
    return found


def grouped(groups: Iterable[GroupLag], now: datetime) -> list[Alert]:
    """Return the consumer groups that are in trouble, each once with all its topics."""
    troubled: defaultdict[str, list[GroupLag]] = defaultdict(list)
    for one in groups:
        if one.state in _GROUP_SAYS:
            troubled[one.group].append(one)
    found = []
    for group, behind in sorted(troubled.items()):
        grave = [one for one in behind if one.state in _GRAVE and _stands_s(one, now) >= GRAVE_S]
        said = "；".join(
            f"{one.topic}: {_GROUP_SAYS[one.state]}，积压 {at_least(one.lag, exact=one.lag_exact)}"
            for one in behind[:5]
        )
        severity: Severity = "critical" if grave else "warning"
        found.append(Alert(AlertKind.GROUP_TROUBLED, group, now.isoformat(), f"{group}：{said}", severity=severity))
    return found


def _stands_s(one: GroupLag, now: datetime) -> float:
    return (now - datetime.fromisoformat(one.state_since)).total_seconds()


def unreadable(found: Iterable[OpenTransaction], now: datetime) -> list[Alert]:
    """Return the topics on which a transaction never ends, each once with its partitions."""
    topics: defaultdict[str, list[OpenTransaction]] = defaultdict(list)
    for one in found:
        topics[one.topic].append(one)
    return [
        Alert(
            AlertKind.TRANSACTION_OPEN,
            topic,
            now.isoformat(),
            f"{topic}："
            + "；".join(f"分区 {one.partition} 从偏移量 {one.offset} 起 {one.hidden} 个" for one in ones[:5])
            + " 读不到 (can't be read)",
            size=len(ones),
        )
        for topic, ones in sorted(topics.items())
    ]


def probed(probe: ProbeLag, now: datetime) -> list[Alert]:
    """Return the probe's failure. A late one is a warning: it came."""
    if probe.state not in {"late", "lost", "refused"}:
        return []
    severity: Severity = "warning" if probe.state == "late" else "critical"
    said = {"late": "太慢 (late)", "lost": "没有送到 (lost)", "refused": "网关不收 (refused)"}[probe.state]
    return [
        Alert(AlertKind.PROBE_FAILED, EVERYBODY, now.isoformat(), f"探测事件{said}：{probe.detail}", severity=severity)
    ]


def parked(waiting: Iterable[Waiting]) -> list[Alert]:
    """Return one alert for each parked event, under the key that the pusher gives it."""
    return [
        Alert(
            AlertKind.EVENT_PARKED if one.decodable else AlertKind.EVENT_UNDECODABLE,
            one.agency,
            one.at,
            one.reason,
            labels={"cursor": one.cursor, "event_id": one.event_id},
        )
        for one in waiting
    ]


def dead(letters: Mapping[str, int], now: datetime) -> list[Alert]:
    """Return the stages that have dead letters which nobody has corrected."""
    return [
        Alert(
            AlertKind.DEAD_LETTERS,
            stage,
            now.isoformat(),
            f"环节 {stage} 有 {number} 封死信未更正 ({number} dead letters): hongyan deadletter list --stage {stage}",
            size=number,
        )
        for stage, number in sorted(letters.items())
        if number
    ]


def unseen(open_alerts: Iterable[Alert], kind: AlertKind, subjects: Collection[str]) -> list[Alert]:
    """Return what is open about subjects that could not be looked at now: it is not over by that.

    What an agency's own settings hold is always looked at, as other alerts about it may not be.
    """
    return [
        one
        for one in open_alerts
        if one.kind == kind and one.subject in subjects and not one.labels.get("of", "").startswith(CONFIGURED)
    ]


def filling(volumes: Iterable[Volume], warn_percent: float, urgent_percent: float, now: datetime) -> list[Alert]:
    """Return what is filling up."""
    found = []
    for one in volumes:
        free = 100.0 * max(0, one.limit - one.used) / one.limit if one.limit else 100.0
        if free >= warn_percent:
            continue
        severity: Severity = "critical" if free < urgent_percent else "warning"
        detail = (
            f"{one.name}：已用 {one.used / _GIB:.1f} GiB，共 {one.limit / _GIB:.1f} GiB，"
            f"剩 {free:.1f}% ({free:.1f} % left)"
        )
        found.append(Alert(AlertKind.DISK_FILLING, one.name, now.isoformat(), detail, severity=severity))
    return found


def away(servers: Iterable[Away], now: datetime) -> list[Alert]:
    """Return the servers that do not answer."""
    return [
        Alert(
            AlertKind.SERVER_AWAY,
            one.server,
            now.isoformat(),
            f"{one.server} 自 {one.since.astimezone(SHANGHAI):%Y-%m-%d %H:%M:%S} 起没有应答"
            f" (does not answer)：{one.why}",
        )
        for one in servers
    ]


def failing(looks: Iterable[Away], now: datetime) -> list[Alert]:
    """Return the looks that find nothing, though what they look at answers."""
    return [
        Alert(
            AlertKind.LOOK_FAILING,
            one.server,
            now.isoformat(),
            f"{one.server} 自 {one.since.astimezone(SHANGHAI):%Y-%m-%d %H:%M:%S} 起看不成 (this look fails)：{one.why}",
        )
        for one in looks
    ]


def lost(gaps: Iterable[Gap], now: datetime) -> list[Alert]:
    """Return the closed months that can't be counted from the log any more, each once."""
    months: defaultdict[str, list[Gap]] = defaultdict(list)
    for gap in gaps:
        months[str(Month.of_number(gap.month))].append(gap)
    return [
        Alert(
            AlertKind.FACTS_LOST,
            month,
            now.isoformat(),
            "；".join(map(str, found[:5])) + (f"；…共 {len(found)} 个分区 (partitions)" if len(found) > 5 else ""),
            size=sum(gap.end - gap.start for gap in found),
        )
        for month, found in sorted(months.items())
    ]


def without(view: ControlView, alerts: Iterable[Alert]) -> list[Alert]:
    """Return those that are about agencies, or holders of keys, which there are not, or not any more."""
    found, agencies, departments = list(alerts), view.agencies.keys(), view.departments.keys()
    of: dict[AlertKind, Collection[str]] = dict.fromkeys(OF_AGENCIES, agencies)
    of |= {AlertKind.KEY_ENDING: agencies | departments, AlertKind.LAG_BURNING: agencies | {EVERYBODY}}
    of[AlertKind.TOPIC_UNWRITABLE] = agencies | {one.subject for one in found if one.subject == one.labels.get("topic")}
    return [one for one in found if one.kind in of and one.subject not in of[one.kind]]


def overdue(follow_ups: Iterable[FollowUp], warn_days: int, now: datetime) -> list[Alert]:
    """Return the agencies with follow-ups to acknowledge within so many working days, or past the deadline."""
    today = now.astimezone(SHANGHAI).date()
    try:
        horizon = add_working_days(today, warn_days)
    except CalendarEndsError:
        horizon = today  # without a calendar only what is due now is certain
    near: defaultdict[str, list[FollowUp]] = defaultdict(list)
    for one in follow_ups:
        if one.deadline <= horizon:
            near[one.agency].append(one)
    return [
        _follow_up_alert(agency, sorted(ones, key=lambda one: one.deadline), today, now)
        for agency, ones in near.items()
    ]


def _follow_up_alert(agency: str, ones: Sequence[FollowUp], today: date, now: datetime) -> Alert:
    late = sum(one.deadline < today for one in ones)
    detail = (
        f"{agency} 有 {len(ones)} 个后续事件未回执，其中 {late} 个已过时限；最早 {ones[0].event}，"
        f"时限 {ones[0].deadline} ({len(ones)} follow-ups unacknowledged, {late} overdue)"
    )
    severity: Severity = "critical" if late else "warning"
    return Alert(AlertKind.FOLLOW_UP_DUE, agency, now.isoformat(), detail, severity=severity, size=len(ones))


def unusable(agencies: Iterable[Agency], troubles: Mapping[str, str], now: datetime) -> list[Alert]:
    """Return the agencies whose keys or settings can't be used, with why."""
    return [
        Alert(AlertKind.RECEIVER_UNUSABLE, one.id, now.isoformat(), troubles[one.id])
        for one in agencies
        if one.id in troubles
    ]


def policies_failing(open_alerts: Iterable[Alert], view: ControlView) -> list[Alert]:
    """Return the open alerts about field policies that a grant in force still has: the others can't fail any more."""
    in_force = {(s.agency, s.policy()) for s in dict(view.subscriptions).values() if s.state == "active"}
    return [
        one
        for one in open_alerts
        if one.kind == AlertKind.POLICY_FAILED and (one.subject, one.labels.get("policy", "")) in in_force
    ]
