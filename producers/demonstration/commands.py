"""``hongyan demo``: the whole idea, working for real on this machine, by the product's own path."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from producers.demonstration.installation import Installation
from producers.demonstration.scenario import MONTH, Delivery, Findings, Scenario
from services.runtime.errors import HongyanError
from services.runtime.lifecycle import interrupted_by_signals
from services.runtime.terminal import Table, plain

LAST_ROWS = 14
PHASES = {
    "up": "启动",
    "prepare": "准备",
    "publish": "发布与送达",
    "simulate": "模拟",
    "import": "导入",
    "count": "计数",
}
INTERRUPTED = 130


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="只输出一个汇总对象 (print one summary object)")] = False,
    stay: Annotated[bool, typer.Option(help="演示后保持运行，ctrl-C 停止 (keep it running)")] = False,
    data: Annotated[Path | None, typer.Option(help="数据目录，默认临时目录 (data folder)")] = None,
    month: Annotated[bool, typer.Option(help="是否导入整月并出月报 (import the month and count it)")] = True,
) -> None:
    """演示：启动、发布、推送、统计 2025 年 12 月 (start, publish, push, and count December 2025)."""
    console = Console(stderr=as_json)
    findings = Findings()
    try:
        with interrupted_by_signals(), tempfile.TemporaryDirectory(prefix="hongyan-demo-") as temporary:
            Path(temporary).chmod(0o755)  # PostgreSQL runs unprivileged when we are root
            _demonstrate(data or Path(temporary), findings, console, as_json=as_json, stay=stay, month=month)
        _tell(console, f"全部进程已停止，{_left(data)}；自己来试：hongyan up，见 docs/start.md (now try it yourself)")
    except HongyanError as error:
        typer.secho(str(error), fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        _tell(console, f"中途停止 (stopped half-way)，{_left(data)}")
        raise typer.Exit(INTERRUPTED) from None


def _left(data: Path | None) -> str:
    """Return what is left of the data: a folder that was named is the caller's."""
    return "临时数据已删除 (nothing is left)" if data is None else f"数据仍在 {data} (the data is kept)"


def _demonstrate(data: Path, findings: Findings, console: Console, *, as_json: bool, stay: bool, month: bool) -> None:
    console.print("[bold]1/4 启动 Kafka、PostgreSQL 与全部进程[/bold] (starting Kafka, PostgreSQL and every process)")
    with findings.timed("up"):
        installation = Installation(data)
    try:
        scenario = Scenario(installation, findings)
        _show(scenario, console, as_json=as_json, month=month)
        if stay:
            with suppress(KeyboardInterrupt):
                _invite(installation, scenario, console)
                installation.wait()
            console.print("正在停止 (stopping)")
    finally:
        installation.stop()


def _invite(installation: Installation, scenario: Scenario, console: Console) -> None:
    """Print what a look into the portal needs: where it is, who to be there, and what to ask."""
    account, password = installation.operator()
    certificate, agency = scenario.not_received()
    _tell(
        console,
        "\n仍在运行。到门户里看一件证书为什么没有送到一个单位 (see in the portal why it has not arrived)：",
        f"  门户 (portal): {installation.stack['addresses']['portal']}",
        f"  账号 (account): {account}",
        f"  一次性密码，登录后自设 (one-time password): {password}",
        f"  证书 (certificate): {certificate}",
        f"  没有送到 (has not reached): {agency}",
        "登录后：总览，「查一个事件」里填证书号，点查到的那一件，选这个单位，点「问为什么」。",
        f"在别的终端用 hongyan 命令，先：export HONGYAN_DATA_DIR={shlex.quote(str(installation.data.resolve()))}",
        "按 ctrl-C 停止 (ctrl-C stops everything)",
    )


def _tell(console: Console, *lines: str) -> None:
    """Print lines as they are, none broken: parts of them are to be copied."""
    for line in lines:
        console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)


def _show(scenario: Scenario, console: Console, *, as_json: bool, month: bool) -> None:
    findings = scenario.findings
    with findings.timed("prepare"):
        scenario.prepare()
    console.print("[bold]2/4 省卫生健康委发布医疗广告审查证明：核发、更正、撤销[/bold]")
    with findings.timed("publish"), Live(console=console, refresh_per_second=8) as live:
        scenario.publish(lambda deliveries: live.update(_deliveries(deliveries)))
    if month:
        console.print("\n[bold]3/4 导入 2025 年 12 月的合成办件[/bold] (synthetic)")
        scenario.import_month(lambda name: console.print(f"  {name}", highlight=False))
        console.print("[bold]4/4 月报的全部数字，与已公布的对照[/bold]")
        scenario.report()
    if as_json:
        typer.echo(json.dumps(findings.to_json(), ensure_ascii=False))
    else:
        if month:
            console.print(_figures(findings))
        _closing(findings, console)


def _deliveries(deliveries: Sequence[Delivery]) -> Table:
    shown = min(LAST_ROWS, len(deliveries))
    table = Table(title=f"已送达 {len(deliveries)} 次，下列最后 {shown} 次 (delivered; the last of them)")
    for column, justify in (("接收单位", "left"), ("事件", "left"), ("主键", "left"), ("毫秒", "right")):
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for one in deliveries[-LAST_ROWS:]:
        table.add_row(one.agency, one.type.rsplit(".", 1)[-1], one.subject, f"{one.milliseconds:.1f}")
    by_agency: dict[str, int] = defaultdict(int)
    for one in deliveries:
        by_agency[one.agency] += 1
    table.caption = "  ".join(f"{agency}: {count}" for agency, count in sorted(by_agency.items()))
    return table


def _figures(findings: Findings) -> Table:
    table = Table(title=f"{MONTH} 月报 {len(findings.figures)} 项数字")
    table.add_column("指标", overflow="fold")
    for column in ("精确值", "显示值", "已公布"):
        table.add_column(column, justify="right", overflow="fold")
    table.add_column("单位")
    table.add_column("一致")
    for one in findings.figures:
        agrees = plain("是") if one["agrees"] else plain("否", "red")
        table.add_row(one["label_zh"], _exact(one["exact"]), one["shown"], one["published"], one["shown_unit"], agrees)
    return table


def _exact(number: object) -> str:
    """Return a number to six places where it has more."""
    whole, point, places = str(number).partition(".")
    return f"{whole}.{places[:6]}…" if len(places) > 6 else f"{whole}{point}{places}"


def _closing(findings: Findings, console: Console) -> None:
    p50, p95, p99 = (findings.percentile(share) or 0.0 for share in (0.5, 0.95, 0.99))
    console.print(
        f"送达 {len(findings.deliveries)} / {findings.expected}；从发布到接收 p50 {p50:.1f} ms，"
        f"p95 {p95:.1f} ms，p99 {p99:.1f} ms",
        highlight=False,
    )
    console.print(
        "各阶段用时：" + "，".join(f"{PHASES[name]} {took:.1f} 秒" for name, took in findings.seconds.items()),
        highlight=False,
    )
