"""``hongyan parked``: look at what agencies refused, and put it back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from schemas.times import shown_time
from schemas.topics import Topics
from services.quarantine.parked import Parked, ParkingPlace
from services.runtime.clock import SystemClock
from services.runtime.errors import HongyanError
from services.runtime.kafka.client import connect
from services.runtime.settings import settings_for_cli
from services.runtime.terminal import Table

parked = typer.Typer(help="停放的事件：接收方拒收的 (events that a receiver refused)", no_args_is_help=True)


def _place() -> ParkingPlace:
    settings = settings_for_cli()
    return ParkingPlace(connect(settings.kafka), Topics(settings.kafka.topic_prefix), SystemClock())


@parked.command("list")
def parked_list(
    agency: Annotated[str | None, typer.Argument(help="接收单位，不填为全部 (agency; all when left out)")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="输出 JSON (print JSON)")] = False,
) -> None:
    """列出停放的事件 (list parked events)."""
    try:
        place = _place()
        found = [one for name in ([agency] if agency else place.agencies()) for one in place.list(name)]
    except HongyanError as error:
        raise _failed(error) from error
    if as_json:
        typer.echo(json.dumps([one.to_json() for one in found], ensure_ascii=False, indent=2))
    else:
        print_parked(found)


def print_parked(found: Sequence[Parked]) -> None:
    """Print parked events as a table."""
    if not found:
        typer.echo("没有停放的事件 (nothing is parked)")
        return
    table = Table()
    for column in ("单位", "位置", "事件", "主键", "状态", "原因", "停放时间", "已重放"):
        table.add_column(column, overflow="fold")
    for one in found:
        table.add_row(
            one.agency,
            str(one.offset),
            one.event_id,
            one.subject,
            one.status,
            one.reason,
            shown_time(one.parked_at),
            "" if one.replayed is None else f"是：{one.replayed}",
        )
    Console().print(table)


@parked.command("replay")
def parked_replay(
    agency: Annotated[str, typer.Argument(help="接收单位 (agency)")],
    reason: Annotated[str, typer.Option(help="理由，记入停放记录 (reason, kept beside the parked event)")],
    offset: Annotated[int | None, typer.Option(help="只重放这一个 (only this one)")] = None,
    everything: Annotated[bool, typer.Option("--all", help="重放全部未重放的 (all not yet replayed)")] = False,
) -> None:
    """把停放的事件放回推送队列 (put parked events back into the feed)."""
    if (offset is None) != everything:
        raise typer.BadParameter("给出 --offset 或 --all 之一 (give one of --offset and --all)")
    try:
        place = _place()
        offsets = [one.offset for one in place.list(agency) if one.replayed is None] if offset is None else [offset]
        kept = place.replay_all(agency, offsets, reason)
    except HongyanError as error:
        raise _failed(error) from error
    typer.echo(f"已放回 {len(offsets) - len(kept)} 个事件 (put back)")
    for one, by in sorted(kept.items()):
        typer.echo(f"未放回 {one}：此后已有 {by}，不再按仍然有效送达 (not put back: {by} took its place)")


@parked.command("park")
def parked_park(
    agency: Annotated[str, typer.Argument(help="接收单位 (agency)")],
    cursor: Annotated[int, typer.Option(help="事件在队列中的游标 (the event's cursor in the feed)")],
    reason: Annotated[str, typer.Option(help="理由，记入回执与停放记录 (reason, kept with the receipt)")],
) -> None:
    """停放队列卡住的那个事件，其余照常送达 (park the event that a line is stuck on; the others go on)."""
    try:
        event = _place().park(agency, cursor, reason)
    except HongyanError as error:
        raise _failed(error) from error
    typer.echo(f"已请推送停放 {event}，游标 {cursor} (asked for): hongyan parked list {agency}")


def _failed(error: HongyanError) -> typer.Exit:
    typer.secho(str(error), fg=typer.colors.RED, err=True)
    return typer.Exit(1)
