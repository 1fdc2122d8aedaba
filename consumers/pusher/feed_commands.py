"""``hongyan feed``: decide where a feed goes on whose cursor is not on its log, and close the alerts of gaps."""

from __future__ import annotations

from typing import Annotated

import structlog
import typer

from consumers.pusher.deciding import Feeds
from schemas.topics import Topics
from services.runtime.clock import SystemClock
from services.runtime.errors import HongyanError
from services.runtime.kafka.client import connect
from services.runtime.settings import settings_for_cli

feed = typer.Typer(help="队列的游标与日志对不上时 (when a feed's cursor is not on its log)", no_args_is_help=True)

Agency = Annotated[str, typer.Argument(help="接收单位 (agency)")]
Reason = Annotated[str, typer.Option(help="理由，记入日志与告警 (reason)")]

log = structlog.get_logger()


def _feeds() -> Feeds:
    settings = settings_for_cli()
    return Feeds(connect(settings.kafka), Topics(settings.kafka.topic_prefix), SystemClock())


@feed.command("go-on")
def feed_go_on(
    agency: Agency,
    at: Annotated[str, typer.Option(help="first、end 或游标：从这里续推 (where to go on)")],
    reason: Reason,
) -> None:
    """决定保持的队列从何处续推，几秒内生效 (decide where a line that is astray goes on; in force in seconds)."""
    try:
        offset = _feeds().go_on(agency, at)
    except HongyanError as error:
        raise _failed(error) from error
    log.info("feed_decided", agency=agency, cursor=offset, reason=reason)
    typer.echo(f"{agency} 将从游标 {offset} 续推 (it goes on there): hongyan lag")


@feed.command("seen")
def feed_seen(agency: Agency, reason: Reason) -> None:
    """缺失已补送或核实无碍，销去告警 (what was missed was made good: close the alerts)."""
    try:
        found = _feeds().seen(agency, reason)
    except HongyanError as error:
        raise _failed(error) from error
    for one in found:
        typer.echo(f"已销号 (closed): {one.detail}")
    if not found:
        typer.echo(f"{agency} 没有可销的告警 (no alert to close)")


def _failed(error: HongyanError) -> typer.Exit:
    typer.secho(str(error), fg=typer.colors.RED, err=True)
    return typer.Exit(1)
