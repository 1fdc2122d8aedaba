"""``hongyan ledger``: build the ledger anew from Kafka, and let go of months that need not be kept."""

from __future__ import annotations

from datetime import UTC, datetime

import typer

from consumers.ledger.engine import longest_retention
from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.ledger.repository import LedgerStore
from services.runtime.database import dsn_of
from services.runtime.errors import HongyanError
from services.runtime.settings import settings_for_cli

ledger = typer.Typer(help="台账：事件的发布、路由、送达与回执 (the ledger of every event)", no_args_is_help=True)


@ledger.command("rebuild")
def rebuild() -> None:
    """清空台账，由运行中的台账进程从 Kafka 重建 (empty it; the running process builds it anew from Kafka)."""
    try:
        _store().rebuild()
    except HongyanError as error:
        raise _failed(error) from error
    typer.echo("台账已清空，正由 Kafka 重建 (being built anew)")


@ledger.command("trim")
def trim() -> None:
    """删除超过目录保存期限的月份 (drop the months that are older than the catalogue's longest retention)."""
    retention = longest_retention(load_contracts())
    try:
        dropped = _store().trim(datetime.now(UTC) - retention)
    except HongyanError as error:
        raise _failed(error) from error
    typer.echo(f"保存 {retention.days} 天，删除 {len(dropped)} 个分区 (partitions dropped)")


def _store() -> LedgerStore:
    settings = settings_for_cli()
    return LedgerStore(dsn_of(settings.database), Topics(settings.kafka.topic_prefix).group("ledger"))


def _failed(error: HongyanError) -> typer.Exit:
    typer.secho(str(error), fg=typer.colors.RED, err=True)
    return typer.Exit(1)
