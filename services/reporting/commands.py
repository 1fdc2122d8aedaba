"""``hongyan report``: an issue of the bulletin, in any form."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from services.reporting.issuing import Format, compose, written
from services.runtime.errors import HongyanError, InvalidError
from services.runtime.settings import settings_for_cli
from services.statistics.opening import open_figures

PRINTED = (Format.text, Format.json)
"""Forms that go to the terminal unless a file is named."""


def report(
    month: Annotated[str, typer.Argument(help="年月，例 2025-12 (month)")],
    format: Annotated[Format, typer.Option(help="形式 (form)")] = Format.text,  # noqa: A002  (the option's name)
    out: Annotated[
        Path | None, typer.Option(help="写到哪个文件；text 与 json 默认输出到终端 (file to write)", dir_okay=False)
    ] = None,
    bulletin: Annotated[
        Path | None, typer.Option(help="栏目稿件与版式所在目录 (folder of the editors' items)", file_okay=False)
    ] = None,
    issued: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="出刊日期，默认按工作日推算 (date of the issue)")
    ] = None,
) -> None:
    """出一期月报：数字来自事件，稿件来自目录 (an issue of the monthly bulletin)."""
    try:
        settings = settings_for_cli()
        folder = settings.reporting.bulletin if bulletin is None else bulletin
        with open_figures(settings) as reader:
            composed = compose(reader, month, folder, issued.date() if issued else None, settings.language)
        content = written(format, composed.bulletin, settings.language)
    except HongyanError as error:
        raise _failed(error) from error
    for warning in composed.warnings:
        typer.secho(warning, fg=typer.colors.YELLOW, err=True)
    if out is None and format in PRINTED:
        typer.echo(content.decode(), nl=False)
        return
    path = out or Path(f"{composed.bulletin.title}-{month}.{format}")
    try:
        path.write_bytes(content)
    except OSError as error:
        raise _failed(HongyanError(f"{path} 写不了 (can't be written): {error}")) from error
    typer.echo(f"{composed.bulletin.title}{composed.bulletin.issue_line}: {path}")


def _failed(error: HongyanError) -> typer.Exit:
    """Say what is wrong, a line for each thing."""
    lines = [f"{p.pointer}: {p.detail}" for p in error.problems] if isinstance(error, InvalidError) else [str(error)]
    for line in lines:
        typer.secho(line, fg=typer.colors.RED, err=True)
    return typer.Exit(1)
