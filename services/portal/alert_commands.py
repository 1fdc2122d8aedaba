"""``hongyan alerts``: what is open and what to do about it, tests of the ways to people, and silences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from schemas.times import shown_time
from services.alerting.routes import read_routes
from services.alerting.trying import tried, ways_of
from services.delivery.network import parse_networks
from services.portal.client import CommandError, fail
from services.portal.commands import AsJson, ask, show
from services.runtime.alerts import SEVERITY_NAMES, AlertKind
from services.runtime.errors import HongyanError
from services.runtime.settings import Settings, settings_for_cli
from services.subscriptions.lifecycle import ADMINISTRATOR

alerts = typer.Typer(help="告警：列出、测试、静默 (alerts: list, test, silence)")

SILENCE_COLUMNS = {
    "id": "编号",
    "kind": "种类",
    "subject": "对象",
    "until": "至",
    "reason": "理由",
    "by": "何人",
    "at": "何时",
    "ended_by": "提前结束者",
}


@alerts.callback(invoke_without_command=True)
def list_alerts(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="含已关闭的 (closed ones too)")] = False,
    agency: Annotated[str | None, typer.Option(help="只看一个单位 (one agency only)")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="至多几条 (at most so many)")] = 100,
    skip: Annotated[int, typer.Option(min=0, help="跳过前几条 (leave out the first)")] = 0,
    as_json: AsJson = False,
) -> None:
    """列出告警与处置办法；不带子命令时 (list the alerts and what to do, without a subcommand)."""
    if context.invoked_subcommand is not None:
        return
    query = {"all": str(everything).lower(), "limit": limit + 1, "skip": skip} | ({"agency": agency} if agency else {})
    found = ask("GET", f"/v1/alerts?{urlencode(query)}")
    rows = found[:limit]
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=2))
    elif not rows:
        typer.echo("没有告警 (no alerts)")
    for row in rows if not as_json else ():
        _print(row)
    if len(found) > limit:
        typer.echo(more_after(skip + limit), err=as_json)  # not among what a program reads


def more_after(seen: int) -> str:
    """Return what is said where more follow than are listed."""
    return f"只列到第 {seen} 条，后面还有，加 --skip {seen} 续看 (more follow: --skip {seen})"


def _print(row: Mapping[str, Any]) -> None:
    severity = SEVERITY_NAMES[row["severity"]]
    colour = typer.colors.RED if row["severity"] == "critical" else typer.colors.YELLOW
    closed = "，已关闭 (closed)" if row["state"] == "closed" else ""
    typer.secho(f"{shown_time(row['at'])}  {severity}  {row['subject']}：{row['title']}{closed}", fg=colour, bold=True)
    typer.echo(f"  原因：{row['detail']}")
    if row["state"] == "open":
        typer.echo(f"  处置：{row['action']}")
        for command in row["commands"]:
            typer.echo(f"        {command}")
    silence = row.get("silence")
    if silence:
        typer.echo(f"  静默至 {shown_time(silence['until'])}，{silence['by']}：{silence['reason']}（{silence['id']}）")


@alerts.command("test")
def test() -> None:
    """给每条路由的每个地址发一条测试消息，逐一说明结果 (send a test message by each way, and say what came of it)."""
    settings = settings_for_cli()
    try:
        failed = _test(settings)
    except HongyanError as error:
        raise fail(error) from error
    if failed:
        raise typer.Exit(1)


def _test(settings: Settings) -> int:
    alerting = settings.alerting
    if alerting.routes is None:
        raise fail(CommandError("没有设置告警路由 (no routes are set): HONGYAN_ALERTING__ROUTES，见 docs/alerts.md"))
    routes = read_routes(alerting.routes)
    networks = parse_networks(settings.delivery.allowed_networks)
    failed = 0
    for one in tried(ways_of(routes, alerting, networks, settings.delivery), datetime.now(UTC)):
        failed += one.trouble is not None
        mark = "未送出 (failed)" if one.trouble else "已送出 (sent)"
        typer.secho(f"{one.route}  {one.way}  {mark}", fg=typer.colors.RED if one.trouble else typer.colors.GREEN)
        if one.trouble:
            typer.echo(f"  {one.trouble}")
    return failed


@alerts.command("silence")
def silence(
    reason: Annotated[str, typer.Option(help="理由，记入静默记录 (why, kept with the silence)")],
    hours: Annotated[float, typer.Option(help="多少小时 (for how many hours)")],
    kind: Annotated[AlertKind | None, typer.Option(help="告警种类 (kind of alert)")] = None,
    subject: Annotated[str | None, typer.Option(help="单位或别的对象 (agency, or what else it is about)")] = None,
    by: Annotated[str, typer.Option(help="何人 (who)")] = ADMINISTRATOR,
) -> None:
    """一段时间内不再告知；告警照记，结束后照常 (tell nobody for a while; alerts are recorded all the same)."""
    body = {"kind": kind, "subject": subject, "hours": hours, "reason": reason, "by": by}
    made = ask("POST", "/v1/alerts/silences", body)
    typer.echo(f"{made['id']}：静默至 {shown_time(made['until'])} (silenced until then)")


@alerts.command("unsilence")
def unsilence(
    name: Annotated[str, typer.Argument(help="静默编号 (id of the silence)")],
    by: Annotated[str, typer.Option(help="何人 (who)")] = ADMINISTRATOR,
) -> None:
    """提前结束静默 (end a silence before its time)."""
    ask("POST", f"/v1/alerts/silences/{quote(name)}/end?{urlencode({'by': by})}")
    typer.echo(f"{name}：已结束 (ended)")


@alerts.command("silences")
def silences(
    everything: Annotated[bool, typer.Option("--all", help="含已结束的 (those that have ended too)")] = False,
    as_json: AsJson = False,
) -> None:
    """列出静默 (list the silences)."""
    rows = ask("GET", f"/v1/alerts/silences?{urlencode({'all': str(everything).lower()})}")
    if not rows and not as_json:
        typer.echo("没有静默 (no silences)")
        return
    show(rows, SILENCE_COLUMNS, as_json)
