"""``hongyan person``: who applies for an agency, and who decides for a department."""

from __future__ import annotations

from typing import Annotated

import typer

from services.portal.commands import AsJson, ask, show

person = typer.Typer(help="人员：申请人与批准人 (people who apply and approve)", no_args_is_help=True)


@person.command("add")
def person_add(
    id: Annotated[str, typer.Argument(help="编号，小写字母、数字和短横 (id)")],  # noqa: A002
    name: Annotated[str, typer.Option(help="姓名 (name)")],
    agency: Annotated[str | None, typer.Option(help="所属接收单位：可为它申请 (agency, applies for it)")] = None,
    department: Annotated[str | None, typer.Option(help="所属发布部门 (department)")] = None,
    approves: Annotated[
        list[str] | None, typer.Option(help="可批准的事件类型，须为该部门所发布，可多次给出 (repeatable)")
    ] = None,
) -> None:
    """登记人员，显示一次本人密钥 (add a person; their key is shown once)."""
    body = {"id": id, "name": name, "agency": agency, "department": department, "approves": approves or []}
    added = ask("POST", "/v1/people", body)
    typer.echo(f"{added['id']} {added['name']}\n本人密钥，仅显示这一次 (key, shown once): {added['key']}")


@person.command("list")
def person_list(as_json: AsJson = False) -> None:
    """列出人员 (list the people)."""
    columns = {"id": "编号", "name": "姓名", "agency": "接收单位", "department": "发布部门", "approves": "可批准"}
    show(ask("GET", "/v1/people"), columns, as_json)
