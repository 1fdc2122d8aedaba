"""``hongyan trace EVENT``: what became of an event, at the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer
from rich.console import Console

from schemas.receipts import OWN_WORDS
from schemas.times import shown_time
from services.portal.commands import AsJson, ask
from services.runtime.terminal import Table, plain

STATES = {
    "pending": "待送达",
    "delivered": "已送达",
    "accepted": "已接收",
    "rejected": "已拒收",
    "parked": "已停放",
}
NOTHING = (
    "台账中没有 {}。编号须写完整，按原样比对；只记得开头的，在门户的「事件」里查 "
    "(nothing of this number is in the ledger; it must be complete: part of one is searched for in the portal)"
)
VERDICTS = {
    None: "尚未路由 (not routed yet)",
    "routed": "已路由 (routed)",
    "duplicate": "重复 (a repetition)",
    "conflict": "冲突：同一编号内容不同 (other content under a known id)",
    "deadletter": "死信 (dead letter)",
}


def trace(
    event: Annotated[
        str,
        typer.Argument(help="完整的事件编号、证书号、信用代码或业务主键 (a whole event id, or a whole number in it)"),
    ],
    source: Annotated[str | None, typer.Option(help="发布部门的 source (publisher)")] = None,
    as_json: AsJson = False,
) -> None:
    """查一个事件的来龙去脉：谁有权、何时送达、谁已回执 (what became of an event)."""
    narrowed = {"source": source} if source else {}
    found: list[dict[str, Any]] = []
    for event_id in _ids(event, narrowed):
        answer = ask("GET", f"/v1/events/{quote(event_id, safe='')}?{urlencode(narrowed)}")
        found += answer["events"]
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
    elif not found:
        typer.echo(plain(NOTHING.format(event)))
    for one in [] if as_json else found:
        print_event(one)
    if not found:
        raise typer.Exit(1)


def _ids(text: str, narrowed: Mapping[str, str]) -> list[str]:
    """Return the ids of the events that a text names: by id, else by a number in them, else by business key."""
    for name in ("event", "identifier", "subject"):
        answer = ask("GET", f"/v1/events?{urlencode({name: text, **narrowed})}")
        if answer["events"]:
            return list(dict.fromkeys(one["event_id"] for one in reversed(answer["events"])))
    return []


def print_event(one: Mapping[str, Any]) -> None:
    """Print one event, as the administration API tells of it, with what became of it at each agency."""
    done = one["completeness"]
    typer.echo(plain(f"{one['id']}  {one['type']}\n  {one['source']}  {one['subject']}"))
    typer.echo(f"  发布 published {shown_time(one['published_at'])}  {VERDICTS.get(one['verdict'], one['verdict'])}")
    if one.get("trace_id"):
        typer.echo(f"  链路 trace {one['trace_id']}")
    if one["reason"]:
        typer.echo(f"  {plain(one['reason'])}")
    typer.echo(f"  送达 delivered {done['delivered']}/{done['entitled']}  接收 accepted {done['accepted']}")
    if not one["agencies"]:
        return
    table = Table()
    for column in ("单位", "依据", "状态", "送达时间", "次数", "渠道", "说明"):
        table.add_column(column, overflow="fold")
    for agency in one["agencies"]:
        receipts = agency["receipts"]
        standing: Mapping[str, Any] = next(
            (each for each in reversed(receipts) if each["outcome"] == agency["state"]), {}
        )
        # Who was pushed an event may acknowledge it by pull: that brought nothing.
        brought = next((each for each in receipts if each["outcome"] == "delivered"), standing)
        state = STATES.get(agency["state"], agency["state"])
        why = "跟随 follow-up" if agency["why"] == "follow-up" else ", ".join(map(str, agency["subscriptions"]))
        cells = (agency["agency"], why, state, shown_time(agency["delivered_at"] or ""), str(agency["attempts"]))
        table.add_row(*cells, brought.get("channel", ""), standing.get("reason") or "")
    Console().print(table)
    for agency in one["agencies"]:
        said = [each for each in agency["receipts"] if each["outcome"] in OWN_WORDS]
        if len(said) > 1:
            turns = "；".join(map(_word, said))
            typer.echo(plain(f"  {agency['agency']} 先后回执 (its words in turn): {turns}"))


def _word(receipt: Mapping[str, Any]) -> str:
    return f"{shown_time(receipt['at'])} {STATES[receipt['outcome']]} {receipt['reason'] or ''}".rstrip()
