"""``hongyan department``: administration from the command line, over the REST API."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console

from schemas.times import shown_time
from services.portal.client import TIMEOUT_S, CommandError, call, fail
from services.runtime.settings import settings_for_cli
from services.runtime.terminal import Table

department = typer.Typer(help="发布部门 (publishing departments)", no_args_is_help=True)
key = typer.Typer(help="部门密钥 (a department's keys)", no_args_is_help=True)
department.add_typer(key, name="key")

DEPARTMENT_COLUMNS = {"id": "编号", "name": "名称", "source": "source", "types": "事件类型", "divisions": "区划"}
KEY_COLUMNS = {"id": "密钥编号", "created_at": "发放时间", "expires_at": "失效时间"}
AsJson = Annotated[bool, typer.Option("--json", help="输出 JSON (print JSON)")]
Reason = Annotated[str, typer.Option(help="理由，记入决定记录 (reason, kept with the decision)")]


def ask(method: str, path: str, body: Mapping[str, Any] | None = None, timeout_s: float = TIMEOUT_S) -> Any:  # noqa: ANN401  (any JSON)
    """Call the administration API; what goes wrong is printed, and ends the command."""
    try:
        return call(settings_for_cli(), method, path, body, timeout_s)
    except CommandError as error:
        raise fail(error) from error


def show(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], as_json: bool) -> None:
    """Print rows as a table, or as JSON."""
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    table = Table()
    for name, label in columns.items():
        # An id is typed again in the next command: it is never cut.
        table.add_column(label, no_wrap=name == "id", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in columns))
    Console().print(table)


def _cell(value: object) -> str:
    if value == {}:
        return "不限"
    if isinstance(value, list):
        return "\n".join(v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in value)
    return "" if value is None else shown_time(str(value))


@department.command("add")
def department_add(
    id: Annotated[str, typer.Argument(help="编号，小写字母、数字和短横 (id)")],  # noqa: A002  (the option's name)
    name: Annotated[str, typer.Option(help="名称 (name)")],
    source: Annotated[str, typer.Option(help="CloudEvents source，例 urn:sc:health-commission")],
    types: Annotated[list[str], typer.Option("--type", help="可发布的事件类型，可多次给出 (repeatable)")],
    divisions: Annotated[
        list[str] | None,
        typer.Option(
            "--division", help="限于此行政区划及其下级，可多次给出；TYPE=5101 只限一个类型 (limit to a division)"
        ),
    ] = None,
    client_id: Annotated[str | None, typer.Option(help="OAuth2 客户端编号 (client id at the OAuth2 server)")] = None,
    rate: Annotated[float | None, typer.Option(help="每秒事件数上限 (events a second at most)")] = None,
    burst: Annotated[int | None, typer.Option(help="一次突发的事件数上限 (events at once at most)")] = None,
) -> None:
    """登记发布部门，显示一次性密钥 (add a department; its key is shown once)."""
    body = {"id": id, "name": name, "source": source, "types": types, "divisions": _limits(divisions or ())}
    added = ask("POST", "/v1/departments", body | {"client_id": client_id, "rate_per_s": rate, "burst": burst})
    typer.echo(f"{added['id']} {added['name']}\n密钥，仅显示这一次 (key, shown once): {added['key']}")


@department.command("set")
def department_set(
    id: Annotated[str, typer.Argument(help="部门编号 (department)")],  # noqa: A002  (the option's name)
    reason: Reason,
    name: Annotated[str | None, typer.Option(help="名称 (name)")] = None,
    types: Annotated[
        list[str] | None, typer.Option("--type", help="可发布的全部事件类型，可多次给出 (all of them; repeatable)")
    ] = None,
    divisions: Annotated[
        list[str] | None, typer.Option("--division", help="全部区划限制，写法同 add (all of them, as in add)")
    ] = None,
    client_id: Annotated[str | None, typer.Option(help="OAuth2 客户端编号 (client id at the OAuth2 server)")] = None,
    rate: Annotated[float | None, typer.Option(help="每秒事件数上限 (events a second at most)")] = None,
    burst: Annotated[int | None, typer.Option(help="一次突发的事件数上限 (events at once at most)")] = None,
) -> None:
    """修改发布部门，不给的不变 (change a department; what is left out stays)."""
    limits = _limits(divisions) if divisions else None
    given: dict[str, object] = {"name": name, "types": types, "divisions": limits, "client_id": client_id}
    given |= {"rate_per_s": rate, "burst": burst}
    body = {field: value for field, value in given.items() if value is not None}
    changed = ask("PATCH", f"/v1/departments/{quote(id)}", body | {"reason": reason})
    show([changed], DEPARTMENT_COLUMNS, as_json=False)


def _limits(divisions: Sequence[str]) -> dict[str, list[str]]:
    """Read ``5101`` or ``TYPE=5101``: which divisions each type is limited to, ``*`` being every type."""
    limits: dict[str, list[str]] = {}
    for text in divisions:
        kind, _, code = text.rpartition("=")
        limits.setdefault(kind or "*", []).append(code)
    return limits


@department.command("list")
def department_list(as_json: AsJson = False) -> None:
    """列出发布部门 (list the departments)."""
    show(ask("GET", "/v1/departments"), DEPARTMENT_COLUMNS, as_json)


@key.command("rotate")
def key_rotate(
    department: Annotated[str, typer.Argument(help="部门编号 (department)")],
    reason: Reason,
    overlap_hours: Annotated[float, typer.Option(help="旧密钥还可用多少小时 (hours the old key still works)")] = 168,
) -> None:
    """换发密钥：新旧并行一段时间，新密钥只显示一次 (a new key beside the old one, which ends later)."""
    body = {"reason": reason, "overlap_hours": overlap_hours}
    changed = ask("POST", f"/v1/departments/{quote(department)}/keys", body)
    typer.echo(f"{department}\n新密钥，仅显示这一次 (new key, shown once): {changed['key']}")
    show(changed["keys"], KEY_COLUMNS, as_json=False)


@key.command("revoke")
def key_revoke(
    department: Annotated[str, typer.Argument(help="部门编号 (department)")],
    key_id: Annotated[str, typer.Argument(help="密钥编号，见 key list (id of the key)")],
    reason: Reason,
) -> None:
    """立即废止一把密钥 (end a key at once)."""
    path = f"/v1/departments/{quote(department)}/keys/{quote(key_id)}/revoke"
    show(ask("POST", path, {"reason": reason})["keys"], KEY_COLUMNS, as_json=False)


@key.command("list")
def key_list(department: str, as_json: AsJson = False) -> None:
    """列出有效密钥 (list a department's live keys)."""
    found = [row["keys"] for row in ask("GET", "/v1/departments") if row["id"] == department]
    if not found:
        raise fail(CommandError(f"没有部门 {department} (no such department)"))
    show(found[0], KEY_COLUMNS, as_json)
