"""``hongyan subscription``: apply for a grant, look at it, decide on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import quote

import typer

from schemas.times import shown_time
from services.portal.client import CommandError, fail
from services.portal.commands import AsJson, Reason, ask, show
from services.portal.explain_commands import PATIENT_S

subscription = typer.Typer(help="订阅 (subscriptions)", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="订阅编号，例 sub-… (id)")]
By = Annotated[str | None, typer.Option(help="由谁，人员编号；用本人密钥时可不填 (who; not needed with their own key)")]
Version = Annotated[int | None, typer.Option(help="所看到的版本；已变则拒绝 (refuse if it has changed since)")]


@subscription.command("add", help="加订阅：起草；给出 --approve-by 时同时提交并批准 (draft, or all in one step)")
@subscription.command("draft")
def subscription_draft(
    agency: Annotated[str, typer.Option(help="接收单位编号 (agency)")],
    types: Annotated[list[str], typer.Option("--type", help="事件类型，可多次给出 (repeatable)")],
    basis: Annotated[str, typer.Option(help="使用依据 (legal basis)")],
    scene: Annotated[str, typer.Option(help="使用场景 (scene)")],
    scope: Annotated[str, typer.Option(help="使用范围 (scope)")],
    method: Annotated[str, typer.Option(help="共享方式，例 推送、拉取、库表 (method)")],
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", help="""JSON 过滤器，可多次给出，例 '{"exact": {"division": "510100"}}'"""),
    ] = None,
    valid_from: Annotated[str | None, typer.Option(help="何时起，不填为批准时 (from when)")] = None,
    valid_until: Annotated[str | None, typer.Option(help="使用时限，提交时必填 (until when; needed to submit)")] = None,
    backfill_from: Annotated[
        str | None, typer.Option(help="补送自何时以来发生的 (also what happened since then)")
    ] = None,
    fields: Annotated[
        str | None,
        typer.Option(help="""字段策略 JSON，不填为全部，例 '{"levels": ["public"], "mask": ["contact_name"]}'"""),
    ] = None,
    divisions: Annotated[
        list[str] | None, typer.Option("--division", help="区划范围，不填为本单位区划及其下级 (reach; repeatable)")
    ] = None,
    forward_to: Annotated[
        list[str] | None, typer.Option(help="可转发给的下级单位，可多次给出 (may be forwarded to; repeatable)")
    ] = None,
    replaces: Annotated[str | None, typer.Option(help="批准后取代的订阅 (the grant that this one replaces)")] = None,
    by: By = None,
    approve_by: Annotated[
        str | None, typer.Option(help="同时登记提交与此人的批准 (also enter the submission and this person's approval)")
    ] = None,
    edit: Annotated[str | None, typer.Option(help="改写这个草稿，不新建 (change this draft instead)")] = None,
) -> None:
    """起草订阅申请 (draft an application)."""
    body = {
        "agency": agency,
        "types": types,
        "filters": [_json(text, "--filter") for text in filters or ()],
        "basis": basis,
        "scene": scene,
        "scope": scope,
        "method": method,
        "valid_from": valid_from,
        "valid_until": valid_until,
        "backfill_from": backfill_from,
        "fields": _json(fields, "--fields") if fields else None,
        "divisions": divisions or [],
        "forward_to": forward_to or [],
        "replaces": replaces,
        "by": by,
        "approve_by": approve_by,
    }
    answer = ask("PUT", f"/v1/subscriptions/{quote(edit)}", body) if edit else ask("POST", "/v1/subscriptions", body)
    _said(answer)


@subscription.command("list")
def subscription_list(as_json: AsJson = False) -> None:
    """列出订阅 (list the subscriptions)."""
    columns = {
        "id": "编号",
        "agency": "接收单位",
        "types": "事件类型",
        "filters": "过滤器",
        "basis": "使用依据",
        "valid_until": "时限",
        "state": "状态",
        "problems": "须处理",
    }
    show(ask("GET", "/v1/subscriptions"), columns, as_json)


@subscription.command("show")
def subscription_show(id: Id, as_json: AsJson = False) -> None:  # noqa: A002
    """显示一个订阅、它的各项决定与补送进度 (a grant, the decisions on it, and how far its backfill is)."""
    found = ask("GET", f"/v1/subscriptions/{quote(id)}")
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    for name, label in _SHOWN.items():
        if found.get(name) not in (None, [], ""):
            typer.echo(f"{label}: {_text(found[name])}")
    columns = {"version": "版本", "action": "决定", "decided_by": "何人", "reason": "理由", "decided_at": "时间"}
    show(found["decisions"], columns, as_json=False)
    if found["backfill"] is not None:
        one = found["backfill"]
        typer.echo(
            f"补送 (backfill): {one['percent']}%，已送 {one['routed']}，已终止或更正不送 {one['withheld']}，"
            f"表达式不能求值 {one['failed']}，"
            f"分区 {one['partitions_done']}/{one['partitions']}"
        )


@subscription.command("dry-run")
def subscription_dry_run(
    id: Id,  # noqa: A002
    since: Annotated[str, typer.Option("--from", help="自何时，例 2025-12-01 (from when)")],
    until: Annotated[str, typer.Option("--to", help="至何时，不含，例 2026-01-01 (until when, left out)")],
    samples: Annotated[int, typer.Option(help="样例数，只给数据提供方看 (examples, for the data's owner)")] = 0,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """试算：批准之前，看它在一段时间里会收到什么 (what a grant would have given, before anyone approves it)."""
    body = {"from": since, "to": until, "samples": samples, "by": by}
    found = ask("POST", f"/v1/subscriptions/{quote(id)}/dry-run", body, timeout_s=PATIENT_S)
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    typer.echo(f"{found['subscription']} v{found['version']} {found['from']} – {found['to']}")
    typer.echo(
        f"看过 {found['read']} 个事件，会收到 {found['matched']} 个（后续 {found['follow_ups']} 个）；"
        f"其中已终止、补送时不送 {found['ended_since']} 个；不能求值 {found['failed']} 个；"
        f"不是事件 {found['unreadable']} 个" + ("" if found["complete"] else "；事件过多，未看完 (too many, stopped)")
    )
    if found["public_only"]:
        typer.echo(
            "尚未批准：表达式只看公开字段，涉及其他字段的不能求值 (not approved yet: tried on public fields alone)"
        )
    show(
        [{"day": day, "count": count} for day, count in found["days"].items()], {"day": "日期", "count": "个数"}, False
    )
    for sample in found["samples"]:
        typer.echo(json.dumps(sample, ensure_ascii=False, indent=2))


@subscription.command("submit")
def subscription_submit(id: Id, reason: Reason = "申请", by: By = None, version: Version = None) -> None:  # noqa: A002
    """提交申请 (submit a draft)."""
    _act(id, "submit", reason, by, version)


@subscription.command("return")
def subscription_return(id: Id, reason: Reason, by: By = None, version: Version = None) -> None:  # noqa: A002
    """退回申请，成为草稿 (return it to its applicant)."""
    _act(id, "return", reason, by, version)


@subscription.command("approve")
def subscription_approve(id: Id, reason: Reason, by: By = None, version: Version = None) -> None:  # noqa: A002
    """批准，须为数据提供方的另一人 (approve; by the data's owner, another person than the applicant)."""
    _act(id, "approve", reason, by, version)


@subscription.command("suspend")
def subscription_suspend(id: Id, reason: Reason, by: By = None) -> None:  # noqa: A002
    """暂停订阅，立即生效 (suspend, at once)."""
    _act(id, "suspend", reason, by)


@subscription.command("resume")
def subscription_resume(id: Id, reason: Reason, by: By = None) -> None:  # noqa: A002
    """恢复订阅 (resume)."""
    _act(id, "resume", reason, by)


@subscription.command("terminate")
def subscription_terminate(id: Id, reason: Reason, by: By = None) -> None:  # noqa: A002
    """终止订阅，不能恢复 (terminate, for good)."""
    _act(id, "terminate", reason, by)


def _act(subscription_id: str, action: str, reason: str, by: str | None, version: int | None = None) -> None:
    body = {"reason": reason, "by": by, "version": version}
    row = ask("POST", f"/v1/subscriptions/{quote(subscription_id)}/{action}", body)
    _said(row)
    if action == "resume":
        told = f"hongyan parked replay {row['agency']} --all --reason 恢复"
        typer.echo(f"暂停期间停放的可以放回 (what was parked meanwhile can be put back): {told}")


def _said(row: dict[str, Any]) -> None:
    typer.echo(f"{row['id']} {row['agency']} {row['state']} v{row['version']}")


def _json(text: str, option: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise fail(CommandError(f"{option} 不是 JSON (is no JSON): {error}")) from error
    if not isinstance(found, dict):
        raise fail(CommandError(f"{option} 应为 JSON 对象 (a JSON object is needed): {text}"))
    return found


def _text(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "；".join(_text(one) for one in value)
    return shown_time(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_SHOWN = {
    "id": "编号",
    "state": "状态",
    "problems": "须处理",
    "version": "版本",
    "agency": "接收单位",
    "types": "事件类型",
    "filters": "过滤器",
    "fields": "字段策略",
    "divisions": "区划范围",
    "forward_to": "可转发给",
    "basis": "使用依据",
    "scene": "使用场景",
    "scope": "使用范围",
    "method": "共享方式",
    "valid_from": "何时起",
    "valid_until": "使用时限",
    "backfill_from": "补送起点",
    "replaces": "取代",
    "applicant": "申请人",
    "approver": "批准人",
}
