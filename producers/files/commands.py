"""``hongyan import``: files of events into Kafka."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from producers.client import Publisher
from producers.files.importing import Importer, Tally, type_in_name
from producers.files.reading import count_rows
from schemas.contracts import EventContract, load_contracts
from services.runtime.errors import HongyanError
from services.runtime.settings import settings_for_cli

REJECTED = 3


def import_file(
    files: Annotated[
        list[Path], typer.Argument(help="CSV（UTF-8 或 GB18030）或 XLSX 文件 (files)", exists=True, dir_okay=False)
    ],
    type: Annotated[  # noqa: A002
        str | None,
        typer.Option(help="事件类型，例 cn.gov.sc.window.case.accepted；不给则取文件名的开头 (event type)"),
    ] = None,
    source: Annotated[str, typer.Option(help="CloudEvents source")] = "urn:sc:file-import",
    rejects: Annotated[
        Path | None, typer.Option(help="拒收行写到哪里，只用于一个文件 (rejects file)，默认 FILE.rejects.csv")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="每个文件输出一行 JSON (one JSON line a file)")] = False,
) -> None:
    """导入文件：列名为字段名或其中文标签；重复导入不会重复计数 (import files; running it again adds nothing)."""
    if rejects is not None and len(files) > 1:
        raise typer.BadParameter("--rejects 只用于一个文件 (for one file only)")
    contracts = [(file, _contract(file, type)) for file in files]
    rejected = False
    try:
        with Publisher(settings_for_cli(), source, bulk=True) as publisher:
            for file, contract in contracts:
                kept = rejects or file.with_name(file.name + ".rejects.csv")
                rejected |= _import(Importer(publisher, contract), file, kept, as_json).rejected > 0
    except HongyanError as error:
        typer.secho(f"{error}\n已写入的不会重复，可直接重新导入 (simply run it again)", fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error
    if rejected:
        raise typer.Exit(REJECTED)


def _contract(file: Path, named: str | None) -> EventContract:
    """Return the contract of the type that is named, or that the file is named after."""
    types = load_contracts().types
    if named is None:
        named = type_in_name(file.name, types)
        if named is None:
            raise typer.BadParameter(f"{file.name}: 文件名不以事件类型开头，请给出 --type (no type in the file's name)")
    if named not in types:
        known = "\n  ".join(sorted(types))
        raise typer.BadParameter(f"没有这个事件类型 (unknown type): {named}\n可用的有 (known):\n  {known}")
    return types[named]


def _import(importer: Importer, file: Path, rejects: Path, as_json: bool) -> Tally:
    began = time.monotonic()
    with _progress(as_json) as progress:
        task = progress.add_task(file.name, total=count_rows(file), rate="")

        def show(tally: Tally) -> None:
            rate = tally.rows / max(0.001, time.monotonic() - began)
            progress.update(task, completed=tally.rows, rate=f"{rate:,.0f} 行/秒")

        tally = importer.run(file, rejects, show)
    _summary(file, tally, rejects, time.monotonic() - began, as_json)
    return tally


def _progress(quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    progress = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=quiet)
    return progress


def _summary(file: Path, tally: Tally, rejects: Path, seconds: float, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"file": file.name, **asdict(tally), "seconds": round(seconds, 3)}, ensure_ascii=False))
        return
    accepted = f"接收 {tally.accepted}，其中有质量标记 {tally.marked}"
    typer.echo(f"{file.name}: {tally.rows} 行：{accepted}；拒收 {tally.rejected}；{seconds:.1f} 秒")
    if tally.rejected:
        typer.echo(f"拒收的行和原因 (rejected rows and why): {rejects}")
