"""``hongyan schema``: the event types, a new one, and their documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column

from schemas.contracts import ROOT, ContractError, Contracts, load_contracts
from schemas.validation import contract_problems
from services.catalogue import document
from services.catalogue.entry import entry_of, summary_of
from services.catalogue.scaffold import scaffold
from services.runtime.errors import InvalidError
from services.runtime.terminal import Table

REFERENCE = Path("docs/reference")

schema = typer.Typer(help="事件类型与目录 (event types and their catalogue)", no_args_is_help=True)

Root = Annotated[Path, typer.Option(help="事件类型所在目录 (folder of the types)", file_okay=False)]


def _loaded(root: Path) -> Contracts:
    try:
        return load_contracts(root)
    except ContractError as error:
        typer.secho(str(error), fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error


@schema.command("list")
def list_types(
    as_json: Annotated[bool, typer.Option("--json", help="输出 JSON (print JSON)")] = False, root: Root = ROOT
) -> None:
    """列出事件类型 (list the event types)."""
    found = [summary_of(contract) for _, contract in sorted(_loaded(root).types.items())]
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    table = Table(Column("类型", no_wrap=True), "名称", "共享属性", "时限", title=f"{len(found)} 个事件类型")
    for one in found:
        deadline = str(one["deadline_working_days"] or "—")
        table.add_row(one["type"], one["title_zh"], document.SHARING[one["sharing"]], deadline)
    Console().print(table)


@schema.command("show")
def show_type(event_type: Annotated[str, typer.Argument(metavar="TYPE")], root: Root = ROOT) -> None:
    """显示一个事件类型的目录条目 (print a type's catalogue entry, as JSON)."""
    contract = _loaded(root).types.get(event_type)
    if contract is None:
        raise typer.BadParameter(f"没有这个事件类型 (unknown type): {event_type}")
    typer.echo(json.dumps(entry_of(contract), ensure_ascii=False, indent=2))


@schema.command("new")
def new_type(event_type: Annotated[str, typer.Argument(metavar="TYPE")], root: Root = ROOT) -> None:
    """新建一个事件类型的目录 (make the folder of a new type)."""
    try:
        folder = scaffold(event_type, root)
    except InvalidError as error:
        typer.secho(str(error), fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error
    _loaded(root)
    typer.echo(f"已建立 (made): {folder}\n请填写三个文件，然后 (fill in its three files, then): hongyan schema check")


@schema.command("check")
def check_types(
    docs: Annotated[Path | None, typer.Option(help="同时核对生成的文档 (also check the documents here)")] = None,
    root: Root = ROOT,
) -> None:
    """核对模式、目录与样例 (check schemas, catalogue and samples against each other)."""
    contracts = _loaded(root)
    problems = contract_problems(contracts)
    if docs is not None:
        problems += [f"{name}: 与模式不符，请运行 make docs (stale)" for name in document.stale(contracts, docs)]
    for problem in problems:
        typer.secho(problem, fg=typer.colors.RED, err=True)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{len(contracts.types)} 个事件类型，全部相符 (all in order)")


@schema.command("docs")
def write_docs(out: Annotated[Path, typer.Option(help="写到哪里 (folder)")] = REFERENCE, root: Root = ROOT) -> None:
    """由模式与目录生成文档 (write the documents)."""
    typer.echo(f"{document.write(_loaded(root), out)} 页 (pages): {out}")
