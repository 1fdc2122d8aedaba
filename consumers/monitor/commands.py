"""``hongyan lag``: how far behind every agency and every consumer group is."""

from __future__ import annotations

import json
import threading
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from consumers.monitor.meter import LagMeter
from consumers.monitor.snapshot import AgencyLag, Snapshot, measured
from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.runtime.clock import SystemClock
from services.runtime.errors import HongyanError, KafkaUnavailableError
from services.runtime.kafka.client import connect
from services.runtime.settings import Settings, settings_for_cli
from services.subscriptions.follower import ControlFollower

CATCH_UP_S = 15.0


def lag(
    as_json: Annotated[bool, typer.Option("--json", help="输出 JSON (print JSON)")] = False,
    every: Annotated[bool, typer.Option("--all", help="没有积压的消费组也列出 (list groups without lag too)")] = False,
) -> None:
    """各单位投递延迟与各消费组积压 (delivery lag of agencies and consumer groups)."""
    try:
        snapshot = measure_once(settings_for_cli())
    except HongyanError as error:
        typer.secho(str(error), fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps(snapshot.to_json(), ensure_ascii=False, indent=2))
    else:
        print_snapshot(snapshot, every=every)


def measure_once(settings: Settings) -> Snapshot:
    """Measure everyone's lag now, from Kafka alone; raises KafkaUnavailableError."""
    kafka, topics = connect(settings.kafka), Topics(settings.kafka.topic_prefix)
    stop = threading.Event()
    follower = ControlFollower(kafka, [topics.control_subscriptions], "lag")
    meter = LagMeter(kafka, topics, load_contracts().domains(), SystemClock())
    try:
        follower.start(stop)
        if not follower.caught_up(CATCH_UP_S):
            raise KafkaUnavailableError("Kafka 没有应答 (Kafka does not answer)")
        return meter.measure(*measured(follower.view))
    finally:
        stop.set()
        meter.close()


def print_snapshot(snapshot: Snapshot, *, every: bool = False) -> None:
    """Print both tables; of the consumer groups those that lag, or every one."""
    console = Console()
    table = Table(title=f"投递延迟，最近 {snapshot.window_s // 60} 分钟 (delivery lag)")
    table.add_column("单位")
    for column in ("最久未达", "积压", "已达", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(column, justify="right")
    table.add_column("保持原因", overflow="fold")
    for one in snapshot.agencies:
        table.add_row(*_row(one))
    console.print(table)
    groups = Table(title="消费组积压 (consumer groups)")
    for column in ("消费组", "主题", "积压"):
        groups.add_column(column)
    shown = [group for group in snapshot.groups if group.lag or every]
    for group in shown:
        groups.add_row(group.group, group.topic, str(group.lag))
    if shown:
        console.print(groups)
    else:
        console.print("各消费组都没有积压 (no consumer group lags)；--all 列出全部", highlight=False)
    if snapshot.unreadable:
        console.print(f"{snapshot.unreadable} 条记录的时间无法读取，按日志的时间计 (times that could not be read)")


def _row(one: AgencyLag) -> list[str]:
    held = f"{one.held_since[:19]} {one.held_why}" if one.held_since else ""
    return [
        one.agency,
        "—" if one.oldest_age_s is None else f"{one.oldest_age_s:.1f} 秒",
        f"{one.backlog}" if one.backlog_exact else f"≥{one.backlog}",
        str(one.delivered),
        *("—" if p is None else f"{p:.1f}" for p in (one.p50_ms, one.p95_ms, one.p99_ms)),
        held,
    ]
