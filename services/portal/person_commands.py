"""``hongyan person``: who applies for an agency, who decides for a department, and who administers."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from schemas.times import shown_time
from services.identity.people import Role
from services.portal.commands import AsJson, ask, show
from services.runtime.settings import settings_for_cli

person = typer.Typer(
    help="人员：申请人、批准人与管理员，及其门户账号 (people and their accounts of the portal)", no_args_is_help=True
)


@person.command("add")
def person_add(
    id: Annotated[str, typer.Argument(help="编号，小写字母、数字和短横 (id)")],  # noqa: A002
    name: Annotated[str, typer.Option(help="姓名 (name)")],
    agency: Annotated[str | None, typer.Option(help="所属接收单位：可为它申请 (agency, applies for it)")] = None,
    department: Annotated[str | None, typer.Option(help="所属发布部门 (department)")] = None,
    approves: Annotated[
        list[str] | None, typer.Option(help="可批准的事件类型，须为该部门所发布，可多次给出 (repeatable)")
    ] = None,
    role: Annotated[
        list[Role] | None,
        typer.Option(help="门户角色，可多次给出；system、security、audit 三员分立，至多其一 (role in the portal)"),
    ] = None,
) -> None:
    """登记人员，显示一次本人密钥；登录门户另用 person password (add a person; their key is shown once)."""
    body: dict[str, object] = {"id": id, "name": name, "agency": agency, "department": department}
    body |= {"approves": approves or [], "roles": [one.value for one in role or ()]}
    added = ask("POST", "/v1/people", body)
    typer.echo(f"{added['id']} {added['name']}\n本人密钥，仅显示这一次 (key, shown once): {added['key']}")


@person.command("list")
def person_list(as_json: AsJson = False) -> None:
    """列出人员 (list the people)."""
    columns = {
        "id": "编号",
        "name": "姓名",
        "agency": "接收单位",
        "department": "发布部门",
        "approves": "可批准",
        "roles": "角色",
    }
    show(ask("GET", "/v1/people"), columns, as_json)


@person.command("password")
def person_password(
    id: Annotated[str, typer.Argument(help="编号 (id)")],  # noqa: A002  (the option's name)
) -> None:
    """给出登录门户的一次性密码，仅显示这一次 (a one-time password for the portal, shown once)."""
    given = ask("POST", f"/v1/people/{quote(id)}/password")
    until = shown_time(given["expires_at"])
    typer.echo(f"{settings_for_cli().portal.url}\n账号 (account): {given['person']}")
    typer.echo(f"一次性密码，登录后自设 (one-time password): {given['password']}\n有效至 (valid until): {until}")
