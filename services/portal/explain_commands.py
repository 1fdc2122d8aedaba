"""``hongyan explain`` and ``hongyan follow-ups``: why an agency got an event, and who owes an answer."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from schemas.times import shown_time
from services.portal.commands import AsJson, ask, show
from services.portal.watching import NoSnapshotError, from_monitor
from services.runtime.settings import settings_for_cli
from services.runtime.terminal import plain

PATIENT_S = 600.0
OUTCOMES = {
    "delivered": "送达 (delivered)",
    "accepted": "接收 (accepted)",
    "rejected": "拒收 (rejected)",
    "parked": "停放 (parked)",
}


def explain(
    event: Annotated[str, typer.Argument(help="事件 id (event id)")],
    agency: Annotated[str, typer.Argument(help="接收单位编号 (agency)")],
    source: Annotated[str | None, typer.Option(help="来源，同一 id 有多个来源时给出 (source)")] = None,
    as_json: AsJson = False,
) -> None:
    """说明一个单位为何收到或没有收到某个事件 (why an agency got an event or not)."""
    query = {"event": event, "agency": agency} | ({"source": source} if source else {})
    found = ask("GET", f"/v1/explain?{urlencode(query)}", timeout_s=PATIENT_S)
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    _tell_facts(found)
    for name, title in (("then", "按发布时的订阅 (as it was then)"), ("now", "按现在的订阅 (as it is now)")):
        for one in found[name]:
            typer.echo(f"{title} {one['subscription']} v{one['version']}: {_sign(one['matches'])}")
            for right in one["rights"]:
                typer.echo(f"  {_sign(right['holds'])} {right['right']}: {right['said']}")
            for each in one["filters"]:
                _filter(each, "  ")


def _tell_facts(found: dict[str, Any]) -> None:
    """Tell what the ledger and the receipts say."""
    event_of = found["event"]
    typer.echo(
        f"{event_of['type']} {event_of['id']} @ {event_of['topic']}/{event_of['partition']}/{event_of['offset']}"
    )
    typer.echo(f"台账 (ledger): {found['verdict']} {found['reason'] or ''}".rstrip())
    for got in found["got"]:
        policy = got["policy"] or "全部 (whole)"
        typer.echo(f"有权，已入队 (entitled, queued): {got['how']} {_versions(got)} 字段策略 {policy}")
        for path, outcome in (got["fields"] or {}).items():
            if outcome != "show":
                typer.echo(f"  {path}: {outcome}")
    if not found["got"]:
        typer.echo("没有收到 (did not get it)")
    for one in found["withheld"]:
        typer.echo(f"补送时不送 (withheld): {one['subscription']} {one['reason']}")
    if not found["original"]:
        typer.echo(
            "是后续，但此前没有单位收到过同一业务主键的事件 (a follow-up, but nobody had got anything of this key)"
        )
    if not found["kept"]:
        typer.echo("事件本身已过保留期，以上只凭台账 (the event is no longer kept: the ledger alone answers)")
    for one in found["delivered"]:
        when, outcome = shown_time(one["last_at"]), OUTCOMES.get(one["outcome"], one["outcome"])
        typer.echo(plain(f"{outcome}: 游标 {one['cursor']} {when} {one['reason'] or ''}".rstrip()))
    if found["got"] and not found["delivered"]:
        typer.echo(plain(f"尚未送达 (not delivered yet): {_held(found['agency'])}"))


def _held(agency: str) -> str:
    """Return since when and why an agency's line is held, or where to look, also where the monitor can't tell."""
    try:
        lag = from_monitor(settings_for_cli().monitor.url)().agency(agency)
    except NoSnapshotError:
        lag = None
    if lag is None or lag.held_since is None:
        return "看 (see) hongyan lag"
    return f"队列保持中 (the line is held)，自 (since) {shown_time(lag.held_since)} {lag.held_why or ''}".rstrip()


def _filter(found: dict[str, Any], indent: str) -> None:
    failed = f" {found['failed']}" if "failed" in found else ""
    typer.echo(f"{indent}{_sign(found['holds'])} {json.dumps(found['filter'], ensure_ascii=False)}{failed}")
    for inner in found.get("inner", ()):
        _filter(inner, indent + "  ")


def _versions(got: dict[str, Any]) -> str:
    return "，".join(f"{name} v{version}" for name, version in got["versions"].items())


def _sign(holds: bool) -> str:
    return "✓" if holds else "✗"


def follow_ups(
    everything: Annotated[bool, typer.Option("--all", help="包括已确认的 (acknowledged ones too)")] = False,
    overdue: Annotated[bool, typer.Option(help="只看逾期的 (only those past the legal deadline)")] = False,
    since: Annotated[
        str | None,
        typer.Option(help="自何时（日期或时间）起入日志的；默认最近 92 天 (on the log since; the last 92 days)"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """更正、收回、撤销、移出：谁尚未确认，法定时限何日 (who has not acknowledged a follow-up, and by when)."""
    asked = {"state": "all" if everything else "open", "overdue": str(overdue).lower()}
    query = urlencode(asked | ({"since": since} if since else {}))
    rows = ask("GET", f"/v1/follow-ups?{query}", timeout_s=PATIENT_S)
    columns = {
        "event": "事件",
        "type": "类型",
        "agency": "单位",
        "state": "状态",
        "deadline": "时限",
        "overdue": "逾期",
    }
    show(
        rows if as_json else [row | {"deadline": row["deadline"] or row["no_deadline"]} for row in rows],
        columns,
        as_json,
    )
