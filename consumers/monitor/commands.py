"""``hongyan lag`` and ``hongyan top``: how far behind every agency and every consumer group is, once and live."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from consumers.monitor.asking import MonitorAwayError, ask, measure_once
from consumers.monitor.showing import print_snapshot
from consumers.monitor.top import watch
from services.delivery.lag import Snapshot
from services.runtime.errors import HongyanError
from services.runtime.settings import Settings, settings_for_cli


def lag(
    as_json: Annotated[bool, typer.Option("--json", help="输出 JSON (print JSON)")] = False,
    every: Annotated[bool, typer.Option("--all", help="没有积压的消费组也列出 (list groups without lag too)")] = False,
) -> None:
    """各单位投递延迟与各消费组积压 (delivery lag of agencies and consumer groups)."""
    try:
        snapshot = snapshot_of(settings_for_cli())
    except HongyanError as error:
        typer.secho(str(error), fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps(snapshot.to_json(), ensure_ascii=False, indent=2))
    else:
        print_snapshot(snapshot, every=every)


def top(
    period: Annotated[float, typer.Option(min=0.2, help="几秒刷新一次 (seconds between two looks)")] = 1.0,
) -> None:
    """同 lag，实时刷新，按 q 退出；输出到管道时只打印一次 (the same, live; q quits; printed once into a pipe)."""
    settings = settings_for_cli()
    try:
        watch(lambda: ask(settings), Console(), period)
    except KeyboardInterrupt:
        return
    except HongyanError as error:
        typer.secho(str(error), fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error


def snapshot_of(settings: Settings) -> Snapshot:
    """Return the monitor's snapshot, or one look from Kafka where it gives none; that is told."""
    try:
        return ask(settings)
    except MonitorAwayError as error:
        if not settings.kafka.bootstrap_servers:
            return measure_once(settings, str(error))  # which says what is missing
        said = "改为直接从 Kafka 测一次，状态无从判断 (measuring once from Kafka; one look tells no states)"
        typer.secho(f"{error}；{said}", fg=typer.colors.YELLOW, err=True)
        return measure_once(settings, str(error))
