"""``hongyan relay``: what a department needs to join by its database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from producers.department.database import DatabaseSettingError
from producers.outbox.repository import create_statement

SQL = Path(__file__).parent / "sql"

relay = typer.Typer(help="发件箱转发：给部门数据库的建表语句。 (The outbox relay.)", no_args_is_help=True)


@relay.callback()
def main() -> None:
    """发件箱转发 (the outbox relay)."""


@relay.command()
def sql(
    dialect: Annotated[
        str, typer.Option(help="postgresql、mysql（含 mariadb），或 SQLAlchemy 的其他方言 (dialect)")
    ] = "postgresql",
) -> None:
    """打印发件箱的建表语句 (print the statements that make the outbox)."""
    file = SQL / f"{'mysql' if dialect == 'mariadb' else dialect}.sql"
    try:
        typer.echo(file.read_text(encoding="utf-8") if file.exists() else create_statement(dialect), nl=False)
    except DatabaseSettingError as error:
        raise typer.BadParameter(str(error)) from error
