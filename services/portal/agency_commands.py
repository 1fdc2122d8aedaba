"""``hongyan agency``: receiving agencies from the command line, over the REST API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from services.portal.client import CommandError, fail
from services.portal.commands import AsJson, Reason, ask, show

agency = typer.Typer(help="接收单位 (receiving agencies)", no_args_is_help=True)

# A receiver, and the server of its tokens, may each be given five minutes by the agency's own settings.
TRIAL_PATIENCE_S = 620.0
KEY_COLUMNS = {"id": "密钥编号", "kind": "算法", "created_at": "启用时间", "expires_at": "失效时间"}
EVIDENCE_COLUMNS = {
    "recorded_at": "存入时间",
    "result": "结果",
    "url": "检查的地址",
    "warnings": "注意",
    "digest": "摘要",
}
Agency = Annotated[str, typer.Argument(help="单位编号 (agency)")]
Delivery = Annotated[
    str | None,
    typer.Option(
        "--delivery",
        help='JSON 或 @文件 (delivery settings)，例 \'{"rate_per_s": 20, "batch": 50}\'，见 docs/subscribe.md',
    ),
]
Kind = Annotated[str, typer.Option(help="签名算法 hmac 或 ed25519 (how deliveries are signed)")]


@agency.command("add")
def agency_add(
    id: Annotated[str, typer.Argument(help="编号，小写字母、数字和短横 (id)")],  # noqa: A002
    name: Annotated[str, typer.Option(help="名称 (name)")],
    webhook: Annotated[
        str,
        typer.Option(
            help="推送地址，只拉取的也给一个自己的，改走 webhook 才用 (where events are posted; who only pulls gives "
            "an address of its own too, used only once its channel is webhook)"
        ),
    ],
    division: Annotated[str, typer.Option(help="行政区划代码 (GB/T 2260)")] = "510000",
    signing: Kind = "hmac",
    delivery: Delivery = None,
) -> None:
    """登记接收单位，显示一次签名密钥 (add an agency; its signing secret is shown once)."""
    body = {"id": id, "name": name, "division": division, "sink": webhook, "signing": signing}
    added = ask("POST", "/v1/agencies", body | {"delivery": _settings(delivery) or {}})
    typer.echo(f"{added['id']} {added['name']} → {added['sink']}")
    _show_key(added)
    if added["verified_at"] is None:
        typer.echo(f"接收端配好密钥后执行 (once the receiver has the key): hongyan agency verify {id}")


@agency.command("list")
def agency_list(as_json: AsJson = False) -> None:
    """列出接收单位 (list the agencies)."""
    rows = ask("GET", "/v1/agencies")
    if not as_json:
        rows = [_listed(row) for row in rows]
    columns = {
        "id": "编号",
        "name": "名称",
        "division": "区划",
        "channel": "渠道",
        "sink": "推送地址",
        "state": "状态",
    }
    show(rows, columns, as_json)


@agency.command("show")
def agency_show(id: Agency) -> None:  # noqa: A002
    """显示一个单位的渠道、密钥与投递设置，何时、由谁、为何暂停 (show one agency, and why it is suspended)."""
    typer.echo(json.dumps(ask("GET", f"/v1/agencies/{quote(id)}"), ensure_ascii=False, indent=2))


@agency.command("verify")
def agency_verify(id: Agency) -> None:  # noqa: A002
    """发送签名质询，答对后才推送 (send the signed challenge; without the right answer nothing is pushed)."""
    done = ask("POST", f"/v1/agencies/{quote(id)}/verify", {}, TRIAL_PATIENCE_S)
    typer.echo(f"{id}: {done['detail']} ({done['milliseconds']} ms)")
    if done["channel"] != "webhook":
        typer.echo(f"渠道是 {done['channel']}，不推送 (its channel is another: nothing is pushed)")
    elif done["state"] == "suspended":
        typer.echo(f"仍为暂停，hongyan agency resume {id} --reason … 后才推送 (still suspended: resume it first)")


@agency.command("test")
def agency_test(id: Agency) -> None:  # noqa: A002
    """试投递一个事件，不含业务数据 (deliver one test event)."""
    done = ask("POST", f"/v1/agencies/{quote(id)}/test", {}, TRIAL_PATIENCE_S)
    typer.echo(f"{id}: {done['detail']} ({done['milliseconds']} ms)")
    if done["answer"]:
        typer.echo(f"应答 (answer): {done['answer']}")
    if not done["passed"]:
        raise typer.Exit(1)


@agency.command("evidence")
def agency_evidence(id: Agency, as_json: AsJson = False) -> None:  # noqa: A002
    """存档的接收端检查，新的在前 (receiver checks that were kept for it, newest first)."""
    rows = ask("GET", f"/v1/agencies/{quote(id)}/evidence")
    if not as_json:
        rows = [_checked(row) for row in rows]
    show(rows, EVIDENCE_COLUMNS, as_json)


@agency.command("set-webhook")
def agency_set_webhook(
    id: Agency,  # noqa: A002
    webhook: Annotated[str, typer.Argument(help="新地址 (new address)")],
    reason: Reason,
) -> None:
    """更改推送地址，新地址须先答对签名质询 (change where events are posted; it must answer the challenge first)."""
    changed = ask("PATCH", f"/v1/agencies/{quote(id)}", {"sink": webhook, "reason": reason}, TRIAL_PATIENCE_S)
    typer.echo(f"{changed['id']} → {changed['sink']}")


@agency.command("set-delivery")
def agency_set_delivery(
    id: Agency,  # noqa: A002
    delivery: Annotated[str, typer.Argument(help="JSON 或 @文件，取代原有全部设置 (in place of all it had)")],
    reason: Reason,
) -> None:
    """更改投递设置：格式、成批、速率、超时、重试、凭证、TLS (change how events are delivered)."""
    body = {"delivery": _settings(delivery), "reason": reason}
    changed = ask("PATCH", f"/v1/agencies/{quote(id)}", body)
    typer.echo(json.dumps(changed["delivery"], ensure_ascii=False, indent=2))


@agency.command("rotate-key")
def agency_rotate_key(
    id: Agency,  # noqa: A002
    reason: Reason,
    overlap_hours: Annotated[
        float, typer.Option(help="旧密钥还并行签名多少小时 (hours the old key still signs)")
    ] = 168,
    kind: Kind = "hmac",
) -> None:
    """换发签名密钥：新旧并行签名一段时间 (a new signing key beside the old one, which ends later)."""
    body = {"reason": reason, "overlap_hours": overlap_hours, "kind": kind}
    changed = ask("POST", f"/v1/agencies/{quote(id)}/keys", body)
    _show_key(changed)
    show(changed["keys"], KEY_COLUMNS, as_json=False)


@agency.command("revoke-key")
def agency_revoke_key(
    id: Agency,  # noqa: A002
    key_id: Annotated[str, typer.Argument(help="密钥编号，见 agency show (id of the key)")],
    reason: Reason,
) -> None:
    """立即废止一把签名密钥 (end a signing key at once)."""
    changed = ask("POST", f"/v1/agencies/{quote(id)}/keys/{quote(key_id)}/revoke", {"reason": reason})
    show(changed["keys"], KEY_COLUMNS, as_json=False)


@agency.command("suspend")
def agency_suspend(id: Agency, reason: Reason) -> None:  # noqa: A002
    """暂停推送，事件留在队列 (hold the line; events wait)."""
    typer.echo(f"{id}: {ask('POST', f'/v1/agencies/{quote(id)}/suspend', {'reason': reason})['state']}")


@agency.command("resume")
def agency_resume(id: Agency, reason: Reason) -> None:  # noqa: A002
    """恢复推送 (take the line up again)."""
    typer.echo(f"{id}: {ask('POST', f'/v1/agencies/{quote(id)}/resume', {'reason': reason})['state']}")


def _listed(row: Mapping[str, Any]) -> dict[str, Any]:
    pushed, marks = row["channel"] == "webhook", [row["state"]]
    if row["state"] == "suspended":
        marks.append("理由见 agency show")
    if pushed and not row["verified_at"]:
        marks.append("待验证")
    return {**row, "state": "，".join(marks), "sink": row["sink"] if pushed else f"不用：{row['sink']}"}


def _checked(row: Mapping[str, Any]) -> dict[str, Any]:
    document = row["document"]
    failed = [one["title"] for one in document.get("checks", ()) if one["passed"] is False]
    result = "通过" if row["passed"] else "\n".join(["未通过", *failed])
    told = {"url": document.get("url"), "warnings": document.get("warnings", []), "digest": row["digest"][:12]}
    return {**row, "result": result, **told}


def _show_key(answer: Mapping[str, Any]) -> None:
    if "secret" in answer:
        typer.echo(f"签名密钥，仅显示这一次 (signing secret, shown once): {answer['secret']}")
    else:
        typer.echo(f"验签公钥 (public key to verify with): {answer['public_key']}")


def _settings(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        source = Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text
        found = json.loads(source)
    except (OSError, ValueError) as error:
        raise fail(CommandError(f"投递设置不是 JSON (delivery settings are no JSON): {error}")) from error
    if not isinstance(found, dict):
        raise fail(CommandError("投递设置应为 JSON 对象 (a JSON object)"))
    return found
