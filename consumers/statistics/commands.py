"""``hongyan statistics``: months, definitions, adjustments, history, downloads and rebuilding."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from rich.console import Console

from consumers.statistics.projection import Projection
from consumers.statistics.rebuilding import BESIDE, Rebuild
from schemas.codec import Codec
from schemas.contracts import load_contracts
from schemas.registry_client import RegistryClient
from schemas.topics import Topics
from services.quarantine.guarding import closing_of
from services.runtime.database import dsn_of
from services.runtime.errors import ConflictError, UnavailableError
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import Partition
from services.runtime.settings import Settings, settings_for_cli
from services.runtime.terminal import Table
from services.statistics.adjustments import adjustments
from services.statistics.announcing import Announcer
from services.statistics.closing import Closing, Outcome, Signature, verify_digest
from services.statistics.commands import MonthArgument, told
from services.statistics.departments import UnitChange, change_unit
from services.statistics.export import ExportFormat, export
from services.statistics.figure import Month
from services.statistics.history import keep_aggregates, read_aggregates
from services.statistics.loading import SHIPPED, load_metrics
from services.statistics.opening import metrics_of, open_figures
from services.statistics.reading import figures
from services.statistics.shapes import shapes

statistics = typer.Typer(help="统计：指标、关账、调整与重建 (the statistics)", no_args_is_help=True)

By = Annotated[str, typer.Option(help="由谁决定：姓名 (who decides)")]
Reason = Annotated[str, typer.Option(help="理由 (why)")]
Override = Annotated[str | None, typer.Option(help="有不符事项仍要办理的理由，将印入月报 (why in spite of refusals)")]


@statistics.command("metrics")
def list_metrics(
    check: Annotated[
        Path | None, typer.Option(help="连同这个目录里的定义一起核对 (check those in this folder too)", exists=True)
    ] = None,
) -> None:
    """列出并核对指标定义 (list and check the definitions)."""
    with told():
        known = load_metrics(shapes(load_contracts()), [SHIPPED, check]) if check else metrics_of(settings_for_cli())
    table = Table(
        "指标", "名称", "周期", "单位", "维度", title=f"{len(known.ids())} 个指标，全部可以计算 (all computable)"
    )
    for metric in known.all():
        table.add_row(metric.id, metric.label_zh, metric.period, metric.unit, " ".join(metric.dimensions))
    Console().print(table)


@statistics.command("periods")
def periods() -> None:
    """列出各月的状态与决定 (the months and what was decided)."""
    with told(), open_figures(settings_for_cli()) as reader:
        decided = reader.frozen.decisions
    for month, decisions in sorted(decided.items()):
        for one in decisions:
            override = f"；带不符事项：{one.override}" if one.override else ""
            digest = f" {one.digest[:12]}" if one.digest else ""
            when = one.decided_at.isoformat(timespec="seconds")
            typer.echo(f"{Month.of_number(month)} {one.state} {when} {one.decided_by}：{one.reason}{override}{digest}")
    if not decided:
        typer.echo("还没有任何决定，各月均为 open (nothing was decided yet)")


@statistics.command("provisional")
def provisional(month: MonthArgument, by: By, reason: Reason) -> None:
    """宣布一个月的数字为初步数 (declare a month's figures provisional)."""
    with told():
        _closing(settings_for_cli()).make_provisional(month, Signature(by, reason))
    typer.echo(f"{month} provisional")


@statistics.command("refusals")
def refusals(month: MonthArgument) -> None:
    """列出妨碍关账的事项 (what speaks against closing)."""
    with told():
        found = _closing(settings_for_cli()).refusals(month)
    typer.echo("\n".join(found) or "没有妨碍关账的事项 (nothing)")


@statistics.command("close")
def close(month: MonthArgument, by: By, reason: Reason, override: Override = None) -> None:
    """关账：冻结定义、数字与摘要 (close a month)."""
    settings = settings_for_cli()
    with told():
        outcome = _closing(settings).close(month, Signature(by, reason, override))
    _print_outcome(settings, outcome, "closed")


@statistics.command("restate")
def restate(month: MonthArgument, by: By, reason: Reason) -> None:
    """按现在所知更正已关账月份的数字 (restate a closed month)."""
    settings = settings_for_cli()
    with told():
        outcome = _closing(settings).restate(month, Signature(by, reason))
    _print_outcome(settings, outcome, "restated")


@statistics.command("publish")
def publish() -> None:
    """发布尚未送出的关账与更正事件 (send the events that wait)."""
    with told():
        typer.echo(f"已发布 (sent): {_announcer(settings_for_cli()).announce()}")


@statistics.command("adjustments")
def list_adjustments(
    month: MonthArgument, as_json: Annotated[bool, typer.Option("--json", help="输出 JSON (print JSON)")] = False
) -> None:
    """关账后的变化：公布数、现在所知与其间的事件 (what changed since the closing)."""
    with told(), open_figures(settings_for_cli()) as reader:
        found = adjustments(reader, month)
    if as_json:
        typer.echo(json.dumps([one.to_json() for one in found], ensure_ascii=False, indent=2))
        return
    for one in found:
        typer.echo(
            f"{one.published.label_zh}：公布 {one.published.exact}，现在 {one.now_known.exact} {one.published.unit}"
        )
        for change in one.changes:
            sign, late = ("+" if change.change == "added" else "−"), ("（关账后到达）" if change.late else "")
            typer.echo(
                f"  {sign} {change.event.occurred_at} {change.event.event_id} 办件 {change.event.case_key}{late}"
            )
    if not found:
        typer.echo(f"{month} 关账后没有变化 (nothing has changed)")


@statistics.command("verify")
def verify(month: MonthArgument) -> None:
    """由日志重算已关账的月份，核对摘要 (count a closed month again from the log)."""
    settings = settings_for_cli()
    with told():
        with open_figures(settings) as reader:
            decision = reader.frozen.decision(Month.parse(month).number)
            if decision is None:
                raise ConflictError(f"{month} 尚未关账 (is not closed)")
            definitions = reader.frozen.definitions(decision.month)
        rebuild, targets = _rebuild(settings), _targets(decision.positions)
        if lost := rebuild.lost(_targets(decision.starts), targets):
            lines = "\n".join(f"  · {one}" for one in lost)
            raise ConflictError(
                f"{month} 的事件日志已不全，无从重算；公布数与摘要不变 (can't be counted again; what was published "
                f"stands)：\n{lines}\n关账摘要 (digest) {decision.digest}"
            )
        with rebuild.beside() as store:
            rebuild.fill(store, targets)
            consumer = Topics(settings.kafka.topic_prefix).group("statistics")
            known = shapes(load_contracts())
            with figures(dsn_of(settings.database), consumer, metrics_of(settings), known, BESIDE) as again:
                digest = verify_digest(again, Month.parse(month), definitions)
    if digest != decision.digest:
        typer.secho(f"{month} 摘要不符 (differs)：关账 {decision.digest}，重算 {digest}", fg=typer.colors.RED, err=True)
        raise typer.Exit(1)
    typer.echo(f"{month} 摘要相符 (the same): {digest}")


@statistics.command("coverage")
def coverage() -> None:
    """列出统计覆盖的日志范围，及已不能由日志重算的月份 (what of each log is counted, and what can't be any more)."""
    with told(), open_figures(settings_for_cli()) as reader:
        starts, positions, found = reader.starts, reader.positions(), reader.gaps
    for (topic, number), position in sorted(positions.items()):
        typer.echo(f"{topic}/{number} 第 {starts.get((topic, number), 0)} 条起，至第 {position} 条之前")
    for gap in found:
        typer.secho(str(gap), fg=typer.colors.RED, err=True)
    if found:
        raise typer.Exit(1)
    typer.echo("关账月份均可由日志重算 (every closed month can be counted again)")


@statistics.command("rebuild")
def rebuild_store(
    switch: Annotated[bool, typer.Option(help="相符时切换到新库 (switch to it when they agree)")] = True,
) -> None:
    """由日志另建统计库，比较后切换；其间照常服务 (rebuild beside the serving store)."""
    with told():
        found = _rebuild(settings_for_cli()).run(switch=switch)
    typer.echo(f"读 {found.records} 条记录，得 {found.facts} 个事实 (records, facts)")
    for one in found.differences:
        said = f"现用 {one.serving}，重建 {one.rebuilt} (events, cases)"
        typer.secho(f"{Month.of_number(one.month)} 单元 {one.cell}：{said}", fg=typer.colors.RED, err=True)
    if found.differences:
        typer.secho("两库不一致，没有切换 (they differ; not switched)", fg=typer.colors.RED, err=True)
        raise typer.Exit(1)
    typer.echo("两库一致" + ("，已切换 (the same; switched)" if found.switched else " (the same)"))


@statistics.command("download")
def download(
    month: MonthArgument,
    form: Annotated[ExportFormat, typer.Option("--format", help="形式 (form)")] = ExportFormat.csv,
    out: Annotated[Path | None, typer.Option(help="写到文件 (file)")] = None,
) -> None:
    """下载已关账月份的全部数字与说明 (a closed month's figures, with metadata)."""
    with told(), open_figures(settings_for_cli()) as reader:
        text = export(reader, month, form)
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8", newline="")


@statistics.command("history")
def import_history(
    file: Annotated[Path, typer.Argument(help="CSV：metric_id,month,exact,source", exists=True, dir_okay=False)], by: By
) -> None:
    """导入只有公布数的月份，用于比较 (import published aggregates of earlier months)."""
    settings = settings_for_cli()
    with told():
        kept = keep_aggregates(dsn_of(settings.database), read_aggregates(file, metrics_of(settings)), by)
    typer.echo(f"已导入 {kept} 个公布数 (imported)")


@statistics.command("department")
def change_department(
    code: Annotated[str, typer.Argument(help="部门代码 (department)")],
    into: Annotated[str, typer.Option(help="此后计入的单位代码 (unit it is reported as)")],
    name: Annotated[str, typer.Option(help="单位名称 (name of the unit)")],
    since: Annotated[str, typer.Option("--from", help="自哪个月起 (first month)")],
    by: By,
    reason: Reason,
) -> None:
    """部门合并或更名：自某月起计入另一单位 (a department is merged or renamed)."""
    with told():
        change = UnitChange(code, Month.parse(since).number, into, name)
        with psycopg.connect(dsn_of(settings_for_cli().database), connect_timeout=3) as connection:
            change_unit(connection, change, by, reason)
    typer.echo(f"{code} 自 {since} 起计入 {name}")


def _closing(settings: Settings) -> Closing:
    return closing_of(settings, connect(settings.kafka))


def _announcer(settings: Settings) -> Announcer:
    codec = Codec(RegistryClient(settings.registry.url, settings.registry.timeout_s))
    topics = Topics(settings.kafka.topic_prefix)
    return Announcer(connect(settings.kafka), topics, load_contracts(), codec, dsn_of(settings.database))


def _rebuild(settings: Settings) -> Rebuild:
    topics, contracts = Topics(settings.kafka.topic_prefix), load_contracts()
    codec = Codec(RegistryClient(settings.registry.url, settings.registry.timeout_s))
    skew = timedelta(seconds=settings.gateway.future_skew_s)
    return Rebuild(
        connect(settings.kafka),
        dsn_of(settings.database),
        topics.group("statistics"),
        Projection(contracts, codec, topics, skew),
    )


def _targets(positions: Mapping[str, int]) -> dict[Partition, int]:
    names = {name: name.rpartition("/") for name in positions}
    return {Partition(topic, int(number)): positions[name] for name, (topic, _, number) in names.items()}


def _print_outcome(settings: Settings, outcome: Outcome, state: str) -> None:
    for one in outcome.refusals:
        typer.secho(f"  不符事项 (in spite of): {one}", fg=typer.colors.YELLOW)
    restated = f"，更正 {len(outcome.restated)} 个指标" if outcome.restated else ""
    typer.echo(f"{outcome.month} {state}：{outcome.figures} 个数字{restated}，摘要 {outcome.digest}")
    try:
        typer.echo(f"已发布 {_announcer(settings).announce()} 个事件 (published)")
    except UnavailableError as error:
        again = "决定已生效；事件稍后用 hongyan statistics publish 发布 (decided; publish its events later)"
        typer.secho(f"{again}: {error}", fg=typer.colors.YELLOW, err=True)
