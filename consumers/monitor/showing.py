"""A snapshot as people read it at a terminal: the same for ``hongyan lag`` and ``hongyan top``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from rich.console import Console, RenderableType
from rich.text import Text

from schemas.times import shown_time
from services.delivery.lag import (
    TROUBLED,
    AgencyLag,
    ChannelLag,
    ClockSkew,
    GroupLag,
    OpenTransaction,
    ProbeLag,
    Snapshot,
    State,
    at_least,
)
from services.runtime.terminal import Table, plain

STATES: dict[State, str] = {
    "ok": "正常",
    "catching-up": "追赶中",
    "slow": "跟不上",
    "stalled": "停滞",
    "stopped": "已停止",
    "rewound": "已回退",
    "held": "保持",
    "parked": "停放",
    "unknown": "未知",
}
"""What people read for each state; docs/operate.md tells what each means."""
WAYS = {"webhook": "推送", "pull": "拉取", "sse": "流", "kafka": "Kafka", "table": "入库"}
PROBES = {
    "off": "未启用",
    "starting": "启动中",
    "ok": "正常",
    "late": "迟到",
    "lost": "丢失",
    "refused": "网关未收",
    "unknown": "未知",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the agencies' table; a ``wide`` one is left out where there is no room, which is said."""

    title: str
    number: bool = False
    wide: bool = False


COLUMNS = (
    Column("单位"),
    Column("渠道"),
    Column("状态"),
    Column("最久未达", number=True),
    Column("积压", number=True),
    Column("停放", number=True),
    Column("已达", number=True, wide=True),
    Column("p50 ms", number=True),
    Column("p95 ms", number=True, wide=True),
    Column("p99 ms", number=True),
    Column("签收 p50", number=True, wide=True),
    Column("按期", number=True, wide=True),
)
WIDE = 112
"""Columns of a terminal from which on everything has room."""


def show(snapshot: Snapshot, width: int, *, every: bool = False, most: int | None = None) -> Sequence[RenderableType]:
    """Return the whole snapshot, part by part; of the consumer groups those that lag or are in trouble, or every one.

    Of agencies that take more than ``most`` lines those that are worst off are shown, and how many are not.
    """
    parts: list[RenderableType] = [head(snapshot), *agencies(snapshot, width, most)]
    shown = [one for one in snapshot.groups if every or one.lag or one.state in TROUBLED]
    if shown:
        parts.append(groups(shown))
    else:
        parts.append(Text("各消费组都没有积压 (no consumer group lags)；--all 列出全部"))
    parts += [plain(transaction(one), "red") for one in snapshot.open_transactions or ()]
    parts += [plain(clock(one)) for one in snapshot.clocks]
    if snapshot.unreadable:
        parts.append(Text(f"{snapshot.unreadable} 条记录的时间无法读取，按日志的时间计 (times that could not be read)"))
    return parts


def print_snapshot(snapshot: Snapshot, console: Console | None = None, *, every: bool = False) -> None:
    """Print it; a line of text is never broken, so that it can be copied whole."""
    console = console or Console()
    for part in show(snapshot, console.width, every=every):
        console.print(part, highlight=False, soft_wrap=isinstance(part, Text))


def head(snapshot: Snapshot) -> Text:
    """Return the moment, the probe, and that Kafka is away where it is."""
    text = plain(f"{shown_time(snapshot.at)}  端到端探测 (probe)：{probe(snapshot.probe)}")
    if snapshot.away_since is not None:
        since = shown_time(snapshot.away_since)
        said = f"\nKafka 自 {since} 不可用，以下是此前测得的 (Kafka is away; these are the last figures)"
        text.append_text(plain(f"{said}：{snapshot.away_why}", "bold red"))
    return text


def probe(one: ProbeLag) -> str:
    """Return the probe in a few words."""
    if one.state in {"off", "starting", "unknown"}:
        return f"{PROBES[one.state]} {one.detail}".rstrip()
    said = f"{PROBES[one.state]} {_ms(one.last_ms)} ms (p50 {_ms(one.p50_ms)}, p99 {_ms(one.p99_ms)})"
    return f"{said} {one.detail}".rstrip()


def agencies(snapshot: Snapshot, width: int, most: int | None = None) -> list[RenderableType]:
    """Return the table of agencies, those in trouble first, and below it why they are, and what it leaves out.

    A second channel has a line of its own.
    """
    table = Table(title=f"投递延迟，最近 {snapshot.window_s // 60} 分钟 (delivery lag)")
    for column in COLUMNS:
        if width >= WIDE or not column.wide:
            justify: Literal["left", "right"] = "right" if column.number else "left"
            table.add_column(column.title, justify=justify, overflow="fold")
    chosen = _fitting(sorted(snapshot.agencies, key=urgency), most)
    for one in chosen:
        _add(table, width, _agency(one), one.state)
        for channel in one.channels:
            if channel.channel != one.channel:
                _add(table, width, _channel(channel))
    reasons = [plain(f"{one.agency}：{said}", _style(one.state)) for one in chosen if (said := why(one))]
    return [table, *reasons, *_left_out(width, len(snapshot.agencies) - len(chosen))]


def _fitting(found: Sequence[AgencyLag], most: int | None) -> Sequence[AgencyLag]:
    """Return the first that take no more lines than this together, but always one."""
    lines = accumulate(max(1, len(one.channels)) + bool(why(one)) for one in found)
    return found if most is None else found[: max(1, sum(reached <= most for reached in lines))]


def _left_out(width: int, agencies_left: int) -> list[Text]:
    """Return what the table of agencies does not show."""
    said = []
    if agencies_left:
        said.append(Text(f"另有 {agencies_left} 个单位未列出 (more agencies)"))
    if width < WIDE:
        names = "、".join(column.title for column in COLUMNS if column.wide)
        said.append(Text(f"终端窄于 {WIDE} 列，未列：{names} (left out for want of room: a wider terminal, or --json)"))
    return said


def urgency(one: AgencyLag) -> tuple[bool, float, str]:
    """Return what agencies are put in order by: those in trouble first, and of them who waits longest."""
    return one.state not in TROUBLED, -(one.oldest_age_s or 0.0), one.agency


def _add(table: Table, width: int, cells: Sequence[str], state: State = "ok") -> None:
    shown = [cell for cell, column in zip(cells, COLUMNS, strict=True) if width >= WIDE or not column.wide]
    table.add_row(*shown, style=_style(state))


def _style(state: State) -> str:
    return "red" if state in TROUBLED else ""


def _state(state: State) -> str:
    """Return a state's word; trouble is marked, also where there is no colour."""
    return f"! {STATES[state]}" if state in TROUBLED else STATES[state]


def groups(found: Sequence[GroupLag]) -> Table:
    """Return the table of consumer groups."""
    table = Table(title="消费组积压 (consumer groups)")
    for column in ("消费组", "主题", "状态"):
        table.add_column(column, overflow="fold")
    for column in ("积压", "落后 秒"):
        table.add_column(column, justify="right", overflow="fold")
    table.add_column("自", overflow="fold")
    for one in found:
        cells = (one.group, one.topic, _state(one.state), at_least(one.lag, exact=one.lag_exact), f"{one.delay_s:.1f}")
        table.add_row(*cells, shown_time(one.state_since), style=_style(one.state))
    return table


def transaction(one: OpenTransaction) -> str:
    """Return what nobody can read."""
    return (
        f"! {one.topic} 分区 {one.partition}：自 {shown_time(one.since)} 有事务未结束，从 {one.offset} 起 {one.hidden} "
        "个偏移量谁也读不到 (a transaction does not end: see hongyan alerts)"
    )


def clock(one: ClockSkew) -> str:
    """Return what is wrong with a publisher's clock."""
    way = "快" if one.direction == "ahead" else "慢"
    return f"{one.source} 的时钟{way}约 {one.seconds:.0f} 秒，共 {one.events} 个事件 (its clock is {one.direction})"


def _agency(one: AgencyLag) -> list[str]:
    share = one.deadline.share
    own = next((held.latencies for held in one.channels if held.channel == one.channel), one.latencies)
    return [
        one.agency,
        WAYS[one.channel],
        _state(one.state),
        "—" if one.oldest_age_s is None else f"{one.oldest_age_s:.1f} 秒",
        at_least(one.backlog, exact=one.backlog_exact),
        f"{one.parked:,}",
        str(own.delivered),
        *(_ms(p) for p in (own.p50_ms, own.p95_ms, own.p99_ms)),
        _duration(own.issue_p50_ms),
        "—" if share is None else f"{share:.1%} {one.deadline.met}/{one.deadline.total}",
    ]


def _channel(one: ChannelLag) -> list[str]:
    found = one.latencies
    figures = [_ms(p) for p in (found.p50_ms, found.p95_ms, found.p99_ms)]
    return ["", WAYS[one.channel], "", "", "", "", str(found.delivered), *figures, _duration(found.issue_p50_ms), ""]


def why(one: AgencyLag) -> str:
    """Return since when a line is in trouble, and why; and what stands parked, whatever its state."""
    said = []
    if one.held_since:
        said.append(f"自 {shown_time(one.held_since)} {one.held_why or ''}".rstrip())
    elif one.state in TROUBLED - {"parked"}:
        said.append(f"{STATES[one.state]}，自 {shown_time(one.state_since)}")
        if one.channel in {"pull", "sse"}:
            said[-1] += "：没有来取，或取了没有回执 (not fetched, or not acknowledged)"
    if one.parked and one.parked_at:
        newest = f"{shown_time(one.parked_at)} {one.parked_why or ''}".rstrip()
        said.append(f"停放未处理 {one.parked} 件，最近 {newest} (parked: hongyan parked list {one.agency})")
    return "；".join(said)


def _ms(value: float | None) -> str:
    return "—" if value is None else f"{value:.1f}"


def _duration(ms: float | None) -> str:
    """Return a time that may take days."""
    if ms is None:
        return "—"
    seconds = ms / 1000
    for size, unit in ((86_400, "天"), (3600, "小时"), (60, "分")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} 秒"
