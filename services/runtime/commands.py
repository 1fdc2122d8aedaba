"""``hongyan up``: a whole installation on this machine until ctrl-C."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import typer
from pydantic import BaseModel
from rich.console import Console

from services.runtime import logging
from services.runtime.embedded import kafka
from services.runtime.errors import HongyanError
from services.runtime.lifecycle import stop_event
from services.runtime.settings import LogSettings, Settings
from services.runtime.stack import Process, Stack, start_stack
from services.runtime.terminal import Table

STOP_S = 60.0
FirstAccount = tuple[str, str]
"""Whom a new installation is signed in to as, and by which one-time password."""


def run_up(
    processes: Sequence[Process],
    data: Path | None,
    port: int | None,
    kafka_port: int | None,
    as_json: bool,
    first_account: Callable[[Settings], FirstAccount | None],
) -> None:
    """Start everything, print where it is and how to sign in, and stop it all on SIGINT or SIGTERM."""
    settings = Settings()
    if data is not None:
        settings.data_dir = data
    logging.configure(LogSettings(level=settings.log.level, json_lines=False), process="up")
    stop = stop_event(grace_s=STOP_S)
    try:
        with start_stack(settings, processes, port, kafka_port, stop=stop) as stack:
            print_stack(stack, as_json, first_account(stack.settings))
            stop.wait()
            if not as_json:  # what started it otherwise says itself what becomes of the data
                typer.echo("正在停止 (stopping)…", err=True)
        if not as_json:
            typer.echo("已停止，数据仍在 (stopped; the data is kept)", err=True)
    except HongyanError as error:
        typer.secho(str(error), fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error


def fetch() -> None:
    """取得内嵌服务器所需的文件，此后启动不再需要网络 (fetch what later starts need, so that they need no network)."""
    try:
        typer.echo(f"Kafka {kafka.VERSION}: {len(kafka.jars())} jar")
    except HongyanError as error:
        typer.secho(str(error), fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error


def show_settings() -> None:
    """列出全部设置：环境变量、默认值、说明 (every setting: variable, default, what it is for)."""
    table = Table()
    for column in ("环境变量 (variable)", "默认 (default)", "说明 (what for)"):
        table.add_column(column, overflow="fold")
    for name, field in Settings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            for inner, one in group.model_fields.items():
                variable = f"HONGYAN_{name}__{inner}".upper()
                table.add_row(variable, str(one.default), one.description or "")
        else:
            table.add_row(f"HONGYAN_{name}".upper(), str(field.default), field.description or "")
    Console().print(table)


def print_stack(stack: Stack, as_json: bool, account: FirstAccount | None = None) -> None:
    """Print one table (or one JSON line) of addresses, keys and log files, and how to sign in to the portal."""
    if as_json:
        more = {"first_account": dict(zip(("account", "password"), account, strict=True))} if account else {}
        typer.echo(json.dumps(stack.to_json() | more, ensure_ascii=False))
        return
    table = Table(title="鸿雁已启动 (Hongyan is running)")
    for column in ("部件 (part)", "地址 (address)", "日志 (log)"):
        table.add_column(column, overflow="fold")
    for name, address in stack.addresses.items():
        table.add_row(name, address, _short(stack.logs.get(name, "")))
    table.add_section()
    table.add_row("数据目录 (data)", _short(str(stack.data.resolve())), "")
    table.add_row("密钥 (keys)", _short(str(stack.keys)) if stack.keys.exists() else "由设置给出 (from settings)", "")
    console = Console()
    console.print(table)
    # Not in the table: a narrow one would break what is to be copied.
    console.print(_how_to_sign_in(stack.addresses.get("portal", ""), account), highlight=False, soft_wrap=True)
    if stack.data.resolve() == Path(Settings.model_fields["data_dir"].default).resolve():
        console.print(
            "在这个目录下，hongyan 命令会自动找到它 (commands called in this folder find it)", highlight=False
        )
    console.print("在别处先设置 (elsewhere, set first):", highlight=False)
    console.print(f"export HONGYAN_DATA_DIR={shlex.quote(str(stack.data.resolve()))}", highlight=False, soft_wrap=True)
    console.print("按 ctrl-C 停止 (ctrl-C stops everything)", highlight=False)


def _how_to_sign_in(portal: str, account: FirstAccount | None) -> str:
    if account is None:
        return (
            f"门户 (the portal): {portal} 用自己的账号登录 (with your account)\n"
            "忘记密码 (a forgotten password): hongyan person password 账号"
        )
    return (
        f"门户 (the portal): {portal}\n账号 (account): {account[0]}\n一次性密码 (one-time password): {account[1]}\n"
        "首次登录后自设密码，再为他人建账号 (choose your own at the first sign-in, then make accounts for others)"
    )


def _short(path: str) -> str:
    """Return a path as seen from here, when that is shorter."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if path and Path(path).is_relative_to(here) else path
