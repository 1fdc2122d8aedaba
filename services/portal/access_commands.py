"""``hongyan agency key | channel | ack-key | kafka-user``: how an agency takes its feed."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

import typer

from services.portal.agency_commands import agency
from services.portal.commands import AsJson, Reason, ask, show
from services.runtime.settings import settings_for_cli

key = typer.Typer(help="接收单位读取队列的密钥 (keys with which an agency reads its feed)", no_args_is_help=True)
agency.add_typer(key, name="key")

KEY_COLUMNS = {"id": "密钥编号", "expires_at": "失效时间"}
Name = Annotated[str, typer.Argument(help="接收单位编号 (agency)")]


class ChannelName(StrEnum):
    """The channels."""

    WEBHOOK = "webhook"
    PULL = "pull"
    KAFKA = "kafka"
    TABLE = "table"


def _ask(name: str, what: str, **body: object) -> Any:  # noqa: ANN401  (any JSON)
    return ask("POST", f"/v1/agencies/{quote(name)}/access/{what}", body)


@key.command("add")
def key_add(
    name: Name,
    reason: Reason,
    overlap_hours: Annotated[float, typer.Option(help="旧密钥还可用多少小时 (hours the old key still works)")] = 168,
) -> None:
    """发放密钥，只显示一次；已有的一把到期失效 (give out a key; an older one ends later)."""
    added = _ask(name, "keys", reason=reason, overlap_hours=overlap_hours)
    typer.echo(f"{name}\n密钥，仅显示这一次 (key, shown once): {added['key']}")
    typer.echo(f"读取地址 (to read at): {settings_for_cli().feeds.url}/v1/feeds/{quote(name)}")


@key.command("revoke")
def key_revoke(
    name: Name, key_id: Annotated[str, typer.Argument(help="密钥编号，见 key list (id of the key)")], reason: Reason
) -> None:
    """立即废止一把密钥 (end a key at once)."""
    show(_ask(name, f"keys/{quote(key_id)}/revoke", reason=reason)["keys"], KEY_COLUMNS, as_json=False)


@key.command("list")
def key_list(name: Name, as_json: AsJson = False) -> None:
    """列出有效密钥 (list an agency's live keys)."""
    show(ask("GET", f"/v1/agencies/{quote(name)}/access")["keys"], KEY_COLUMNS, as_json)


@agency.command("channel")
def channel(
    name: Name, channel: Annotated[ChannelName, typer.Argument(help="取件渠道 (channel)")], reason: Reason
) -> None:
    """更换渠道：从同一游标继续，不漏不重 (take the feed by another channel, from the same cursor on)."""
    changed = _ask(name, "channel", channel=channel.value, reason=reason)
    typer.echo(f"{name} → {changed['channel']}")


@agency.command("ack-key")
def ack_key(
    name: Name,
    reason: Reason,
    public: Annotated[
        str | None, typer.Option(help="whpk_…，单位的 ed25519 公钥；不填则生成共享密钥 (the agency's public key)")
    ] = None,
) -> None:
    """登记回执验签密钥 (what signed receipts are verified with)."""
    changed = _ask(name, "ack-key", reason=reason, public=public)
    typer.echo(f"{name} {changed['ack_key']}")
    if "secret" in changed:
        typer.echo(f"共享密钥，仅显示这一次 (secret, shown once): {changed['secret']}")


@agency.command("kafka-user")
def kafka_user(name: Name, reason: Reason) -> None:
    """建立只能读本单位队列的 Kafka 用户，口令只显示一次 (a Kafka user for this feed alone)."""
    made = _ask(name, "kafka-user", reason=reason)
    for label, part in (("用户 user", "user"), ("主题 topic", "topic"), ("消费组 group", "group")):
        typer.echo(f"{label}: {made[part]}")
    typer.echo(
        "登录方式 mechanism: SASL/SCRAM-SHA-256，地址见 Kafka 管理员给出的 SASL 监听 (at the broker's SASL listener)"
    )
    typer.echo(f"口令，仅显示这一次 (password, shown once): {made['password']}")
