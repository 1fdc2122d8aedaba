"""``hongyan poller``: try a mapping, run it, and see what it rejects."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column

from producers.poller import process
from producers.poller.journal import Journal
from producers.poller.mapping import load_mapping
from producers.poller.preview import Unregistered, as_table, preview
from producers.poller.template import template
from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.runtime.errors import HongyanError
from services.runtime.kafka.client import connect
from services.runtime.settings import Settings, settings_for_cli
from services.runtime.terminal import Table

REJECTED = 3

poller = typer.Typer(help="数据表轮询：不改业务系统，按映射文件接入。 (The table poller.)", no_args_is_help=True)

MappingFile = Annotated[Path, typer.Argument(help="映射文件 (mapping file)", exists=True, dir_okay=False)]
AsJson = Annotated[bool, typer.Option("--json", help="输出 JSON (print JSON)")]


@poller.command("new")
def new(event_type: Annotated[str, typer.Argument(metavar="TYPE")]) -> None:
    """打印一个类型的映射文件，填上列名即可 (print a mapping file for a type, to be filled in)."""
    contract = load_contracts().types.get(event_type)
    if contract is None:
        raise typer.BadParameter(f"没有这个事件类型 (unknown type): {event_type}；见 hongyan schema list")
    typer.echo(template(contract), nl=False)


@poller.command("run")
def run(
    mapping: MappingFile,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="只显示前几行会变成什么事件，不发布 (only show the first rows mapped)")
    ] = False,
    rows: Annotated[int, typer.Option(help="试运行显示几行 (rows of a dry run)", min=1, max=100)] = 5,
    port: Annotated[int, typer.Option(help="健康与指标的端口 (port)")] = 8096,
    as_json: AsJson = False,
) -> None:
    """运行一个映射，或用 --dry-run 试运行 (run a mapping, or try it)."""
    settings = _settings(mapping)
    try:
        if dry_run:
            _dry_run(settings, rows, as_json)
        else:
            process.run(settings, port=port)
    except HongyanError as error:
        raise _fail(error) from error


@poller.command("rejects")
def rejects(
    mapping: MappingFile,
    key: Annotated[str | None, typer.Option(help="只看这一行 (only the row with this key)")] = None,
    as_json: AsJson = False,
) -> None:
    """列出现在被拒的行与逐字段的原因 (list the rows that are rejected now, and why)."""
    settings = _settings(mapping)
    try:
        name = load_mapping(mapping, load_contracts()).name
        found = Journal(connect(settings.kafka), Topics(settings.kafka.topic_prefix), name).rejects()
    except HongyanError as error:
        raise _fail(error) from error
    wanted = {k: record for k, record in sorted(found.items()) if key in {None, k}}
    if as_json:
        typer.echo(json.dumps([{**record, "key": k} for k, record in wanted.items()], ensure_ascii=False, indent=2))
        return
    table = Table("键", "时间", "字段", "列", Column("问题", overflow="fold"), title=f"{name}: {len(wanted)} 行被拒")
    for k, record in wanted.items():
        for problem in record["problems"]:
            table.add_row(k, record["at"], problem["field"], problem["column"] or "", problem["problem"])
    Console().print(table)


def _settings(mapping: Path) -> Settings:
    settings = settings_for_cli()
    settings.poller.mapping = mapping
    return settings


def _dry_run(settings: Settings, rows: int, as_json: bool) -> None:
    parts = process.assemble(settings, load_contracts(), Unregistered())
    found = preview(parts, rows, datetime.now(UTC))
    if as_json:
        typer.echo(json.dumps([one.to_json() for one in found], ensure_ascii=False, indent=2))
    else:
        Console().print(as_table(parts, found))
        rejected = sum(bool(one.problems) for one in found)
        typer.echo(f"前 {len(found)} 行，其中 {rejected} 行会被拒；没有发布任何事件 (nothing was published)")
    if any(one.problems for one in found):
        raise typer.Exit(REJECTED)


def _fail(error: HongyanError) -> typer.Exit:
    lines = str(error).replace("; /", "\n/")
    typer.secho(lines, fg=typer.colors.RED, err=True)
    return typer.Exit(1)
