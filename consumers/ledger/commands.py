"""``hongyan ledger``: build the ledger anew from Kafka, and let go of months that need not be kept."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

import typer

from consumers.ledger.engine import retention_of, shortened_logs
from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.ledger.repository import LedgerStore
from services.runtime.database import dsn_of
from services.runtime.errors import ConflictError, HongyanError
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import Partition
from services.runtime.settings import Settings, settings_for_cli

ledger = typer.Typer(help="台账：事件的发布、路由、送达与回执 (the ledger of every event)", no_args_is_help=True)


@ledger.command("rebuild")
def rebuild(
    lossy: Annotated[
        bool,
        typer.Option(help="Kafka 已不保存最早的记录也重建，其在台账中的内容随之消失 (lose what Kafka keeps no longer)"),
    ] = False,
) -> None:
    """清空台账，由运行中的台账进程从 Kafka 重建 (empty it; the running process builds it anew from Kafka)."""
    settings = settings_for_cli()
    try:
        topics = Topics(settings.kafka.topic_prefix)
        lost = shortened_logs(connect(settings.kafka), topics, load_contracts())
        if lost and not lossy:
            raise ConflictError(_refusal(lost))
        _store(settings).rebuild()
    except HongyanError as error:
        raise _failed(error) from error
    typer.echo("台账已清空，正由 Kafka 重建 (being built anew)")


@ledger.command("trim")
def trim() -> None:
    """按目录各类型的保存期限清理（台账进程每天自动做）(let go of what the catalogue keeps no longer)."""
    try:
        trimmed = _store(settings_for_cli()).trim(datetime.now(UTC), retention_of(load_contracts()))
    except HongyanError as error:
        raise _failed(error) from error
    typer.echo(f"删除 {len(trimmed.partitions)} 个分区、{trimmed.rows} 行 (partitions, rows let go)")


def _refusal(lost: Mapping[Partition, int]) -> str:
    some = sorted(lost.items())[:5]
    lines = "\n".join(f"  · {one.topic}/{one.partition} 从第 {start} 条起 (from offset {start})" for one, start in some)
    return (
        f"没有重建：{len(lost)} 个分区最早的记录 Kafka 已不保存，重建会丢失台账中相应的内容；确要如此，加 --lossy "
        f"(Kafka no longer keeps the first records; --lossy loses what the ledger has of them)：\n{lines}"
    )


def _store(settings: Settings) -> LedgerStore:
    return LedgerStore(dsn_of(settings.database), Topics(settings.kafka.topic_prefix).group("ledger"))


def _failed(error: HongyanError) -> typer.Exit:
    typer.secho(str(error), fg=typer.colors.RED, err=True)
    return typer.Exit(1)
