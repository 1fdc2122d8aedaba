"""``hongyan deadletter``: look at what could not be worked on, correct it and put it back."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

import typer

from services.portal.client import CommandError, fail
from services.portal.commands import AsJson, ask, show

deadletter = typer.Typer(help="死信：无法处理的事件 (events that could not be worked on)", no_args_is_help=True)

Number = Annotated[str, typer.Argument(help="死信编号，例 router/17 (number of the dead letter)")]


@deadletter.command("list")
def deadletter_list(
    stage: Annotated[str | None, typer.Option(help="环节 router pusher statistics (stage)")] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="事件类型 (event type)")] = None,
    source: Annotated[str | None, typer.Option(help="来源 (source)")] = None,
    text: Annotated[str | None, typer.Option(help="原因或属性中的文字 (text in the reason or an attribute)")] = None,
    state: Annotated[Literal["open", "corrected"] | None, typer.Option(help="未更正或已更正 (state)")] = None,
    limit: Annotated[int, typer.Option(help="最多几条，取最新 (newest so many)")] = 100,
    as_json: AsJson = False,
) -> None:
    """查找死信 (find dead letters)."""
    wanted = {"stage": stage, "type": event_type, "source": source, "text": text, "state": state, "limit": limit}
    given = urlencode({name: value for name, value in wanted.items() if value is not None})
    rows: list[dict[str, Any]] = ask("GET", f"/v1/deadletters?{given}")
    if not as_json:
        for row in rows:
            row["id"] = row["attributes"].get("id")
            row["done"] = row["correction"]["by"] if row["correction"] else None
    columns = {"number": "编号", "at": "时间", "id": "事件", "reason": "原因", "origin": "来处", "done": "更正人"}
    show(rows, columns, as_json)


@deadletter.command("show")
def deadletter_show(number: Number) -> None:
    """显示一封死信及其数据 (show a dead letter with its data)."""
    typer.echo(json.dumps(ask("GET", f"/v1/deadletters/{_path(number)}"), ensure_ascii=False, indent=2))


@deadletter.command("resubmit")
def deadletter_resubmit(
    number: Number,
    reason: Annotated[str, typer.Option(help="理由，记入更正记录 (reason, kept with the correction)")],
    by: Annotated[str, typer.Option(help="更正人 (who corrects)")] = "administrator",
    data: Annotated[
        str, typer.Option(help="""要改的数据，JSON，null 为删去 (fields to change), 例 '{"beds": 20}'""")
    ] = "{}",
    attributes: Annotated[str, typer.Option(help="要改的属性，JSON (attributes to change)")] = "{}",
) -> None:
    """更正并重新提交；更正留有记录 (correct and put back, with the correction on record)."""
    body = {"reason": reason, "by": by, "data": _json(data), "attributes": _json(attributes)}
    done = ask("POST", f"/v1/deadletters/{_path(number)}/resubmit", body)
    typer.echo(f"{done['number']} → {done['event']['topic']} {done['event']['id']}")


def _path(number: str) -> str:
    stage, _, offset = number.partition("/")
    if not offset.isdigit():
        raise fail(CommandError(f"{number}: 编号形如 router/17 (a number is like router/17)"))
    return f"{quote(stage)}/{offset}"


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise fail(CommandError(f"{text}: 不是 JSON (no JSON): {error}")) from error
    if not isinstance(found, dict):
        raise fail(CommandError(f"{text}: 应为 JSON 对象 (a JSON object is needed)"))
    return found
