"""``hongyan up``: a whole installation on this machine until ctrl-C."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from services.runtime.errors import HongyanError
from services.runtime.lifecycle import stop_event
from services.runtime.settings import Settings
from services.runtime.stack import Process, Stack, start_stack


def run_up(
    processes: Sequence[Process], data: Path | None, port: int | None, kafka_port: int | None, as_json: bool
) -> None:
    """Start everything, print where it is, and stop it all on SIGINT or SIGTERM."""
    settings = Settings()
    if data is not None:
        settings.data_dir = data
    stop = stop_event(grace_s=60)
    try:
        with start_stack(settings, processes, port, kafka_port) as (stack, supervisor):
            print_stack(stack, as_json)
            supervisor.watch(stop)
    except HongyanError as error:
        typer.secho(str(error), fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error


def print_stack(stack: Stack, as_json: bool) -> None:
    """Print one table (or one JSON line) of addresses and log files, and where the keys are."""
    if as_json:
        shown = stack.to_json()
        typer.echo(json.dumps({name: value for name, value in shown.items() if name != "environment"}))
        return
    table = Table(title="鸿雁已启动 (Hongyan is running)")
    for column in ("部件 (part)", "地址 (address)", "日志 (log)"):
        table.add_column(column, overflow="fold")
    for name, address in stack.addresses.items():
        table.add_row(name, address, stack.logs.get(name, str(stack.data / "logs" / f"{name}.log")))
    console = Console()
    console.print(table)
    console.print(f"密钥 (keys): {stack.data / 'keys.json'}", highlight=False)
    console.print("在同一目录下，hongyan 命令会自动找到它；按 ctrl-C 停止 (ctrl-C stops everything)", highlight=False)
