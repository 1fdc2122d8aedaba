"""A snapshot as people read it at a terminal: the same for ``hongyan lag`` and ``hongyan top``."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from schemas.times import shown_time
from services.delivery.lag import TROUBLED, AgencyLag, ChannelLag, ClockSkew, GroupLag, ProbeLag, Snapshot, State

STATES: dict[State, str] = {
    "ok": "正常",
    "catching-up": "追赶中",
    "slow": "跟不上",
    "stalled": "停滞",
    "stopped": "已停止",
    "rewound": "已回退",
    "held": "保持",
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
}


def show(snapshot: Snapshot, *, every: bool = False) -> RenderableType:
    """Return the whole snapshot; of the consumer groups those that lag or are in trouble, or every one."""
    parts: list[RenderableType] = [head(snapshot), agencies(snapshot)]
    shown = [one for one in snapshot.groups if every or one.lag or one.state in TROUBLED]
    if shown:
        parts.append(groups(shown))
    else:
        parts.append(Text("各消费组都没有积压 (no consumer group lags)；--all 列出全部"))
    parts += [Text(clock(one)) for one in snapshot.clocks]
    if snapshot.unreadable:
        parts.append(Text(f"{snapshot.unreadable} 条记录的时间无法读取，按日志的时间计 (times that could not be read)"))
    return Group(*parts)


def print_snapshot(snapshot: Snapshot, *, every: bool = False) -> None:
    """Print it."""
    Console().print(show(snapshot, every=every), highlight=False)


def head(snapshot: Snapshot) -> Text:
    """Return the moment, the probe, and that Kafka is away where it is."""
    text = Text(f"{shown_time(snapshot.at)}  端到端探测 (probe)：{probe(snapshot.probe)}")
    if snapshot.away_since is not None:
        since = shown_time(snapshot.away_since)
        said = f"\nKafka 自 {since} 不可用，以下是此前测得的 (Kafka is away; these are the last figures)"
        text.append(f"{said}：{snapshot.away_why}", style="bold red")
    return text


def probe(one: ProbeLag) -> str:
    """Return the probe in a few words."""
    if one.state in {"off", "starting"}:
        return PROBES[one.state]
    said = f"{PROBES[one.state]} {_ms(one.last_ms)} ms (p50 {_ms(one.p50_ms)}, p99 {_ms(one.p99_ms)})"
    return f"{said} {one.detail}".rstrip()


def agencies(snapshot: Snapshot) -> Table:
    """Return the table of agencies; a second channel has a line of its own."""
    table = Table(title=f"投递延迟，最近 {snapshot.window_s // 60} 分钟 (delivery lag)")
    table.add_column("单位")
    table.add_column("渠道")
    table.add_column("状态")
    for column in ("最久未达", "积压", "已达", "p50 ms", "p95 ms", "p99 ms", "签收 p50", "按期"):
        table.add_column(column, justify="right")
    table.add_column("原因", overflow="fold")
    for one in snapshot.agencies:
        table.add_row(*_agency(one), style="red" if one.state in TROUBLED else None)
        for channel in one.channels:
            if channel.channel != one.channel:
                table.add_row(*_channel(channel))
    return table


def groups(found: Sequence[GroupLag]) -> Table:
    """Return the table of consumer groups."""
    table = Table(title="消费组积压 (consumer groups)")
    for column in ("消费组", "主题", "状态"):
        table.add_column(column)
    for column in ("积压", "落后 秒"):
        table.add_column(column, justify="right")
    table.add_column("自")
    for one in found:
        style = "red" if one.state in TROUBLED else None
        cells = (one.group, one.topic, STATES[one.state], f"{one.lag}", f"{one.delay_s:.1f}")
        table.add_row(*cells, shown_time(one.state_since), style=style)
    return table


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
        STATES[one.state],
        "—" if one.oldest_age_s is None else f"{one.oldest_age_s:.1f} 秒",
        f"{one.backlog}" if one.backlog_exact else f"≥{one.backlog}",
        str(own.delivered),
        *(_ms(p) for p in (own.p50_ms, own.p95_ms, own.p99_ms)),
        _duration(own.issue_p50_ms),
        "—" if share is None else f"{share:.1%}",
        why(one),
    ]


def _channel(one: ChannelLag) -> list[str]:
    found = one.latencies
    figures = [_ms(p) for p in (found.p50_ms, found.p95_ms, found.p99_ms)]
    return ["", WAYS[one.channel], "", "", "", str(found.delivered), *figures, _duration(found.issue_p50_ms), "", ""]


def why(one: AgencyLag) -> str:
    """Return since when a line is in trouble, and why."""
    if one.held_since:
        return f"{shown_time(one.held_since)} {one.held_why or ''}".rstrip()
    return f"自 {shown_time(one.state_since)}" if one.state in TROUBLED else ""


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
