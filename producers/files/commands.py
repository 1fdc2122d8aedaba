"""``hongyan import``: a file of events into Kafka."""

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
from producers.files.importing import Importer, Tally
from producers.files.reading import count_rows
from schemas.contracts import load_contracts
from services.runtime.errors import HongyanError
from services.runtime.settings import settings_for_cli

REJECTED = 3


def import_file(
    file: Annotated[
        Path, typer.Argument(help="CSV（UTF-8 或 GB18030）或 XLSX 文件 (file)", exists=True, dir_okay=False)
    ],
    type: Annotated[str, typer.Option(help="事件类型，例 cn.gov.sc.window.case.accepted (event type)")],  # noqa: A002
    source: Annotated[str, typer.Option(help="CloudEvents source")] = "urn:sc:file-import",
    rejects: Annotated[Path | None, typer.Option(help="拒收行写到哪里 (rejects file)，默认 FILE.rejects.csv")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="输出一行 JSON (print one JSON line)")] = False,
) -> None:
    """导入文件：列名即字段名；重复导入不会重复计数 (import a file; running it again adds nothing)."""
    contract = load_contracts().types.get(type)
    if contract is None:
        known = "\n  ".join(sorted(load_contracts().types))
        raise typer.BadParameter(f"没有这个事件类型 (unknown type): {type}\n可用的有 (known):\n  {known}")
    rejects = rejects or file.with_name(file.name + ".rejects.csv")
    began = time.monotonic()
    try:
        with Publisher(settings_for_cli(), source, bulk=True) as publisher, _progress(as_json) as progress:
            task = progress.add_task(file.name, total=count_rows(file), rate="")

            def show(tally: Tally) -> None:
                rate = tally.rows / max(0.001, time.monotonic() - began)
                progress.update(task, completed=tally.rows, rate=f"{rate:,.0f} 行/秒")

            tally = Importer(publisher, contract).run(file, rejects, show)
    except HongyanError as error:
        typer.secho(f"{error}\n已写入的不会重复，可直接重新导入 (simply run it again)", fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error
    _summary(tally, rejects, time.monotonic() - began, as_json)
    if tally.rejected:
        raise typer.Exit(REJECTED)


def _progress(quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    progress = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=quiet)
    return progress


def _summary(tally: Tally, rejects: Path, seconds: float, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(tally) | {"seconds": round(seconds, 3)}))
        return
    accepted = f"接收 {tally.accepted}，其中有质量标记 {tally.marked}"
    typer.echo(f"{tally.rows} 行：{accepted}；拒收 {tally.rejected}；{seconds:.1f} 秒")
    if tally.rejected:
        typer.echo(f"拒收的行和原因 (rejected rows and why): {rejects}")
