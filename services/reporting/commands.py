"""``hongyan report``: an issue of the bulletin, in any form."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from schemas.contracts import load_contracts
from services.reporting.bulletin import Bulletin
from services.reporting.composing import Composed, Composer
from services.reporting.masthead import read_masthead
from services.reporting.naming import names, symbol_names
from services.reporting.standing import standing
from services.runtime.errors import HongyanError, InvalidError, NotFoundError
from services.runtime.settings import Settings, settings_for_cli
from services.statistics.figure import Month
from services.statistics.opening import open_figures


class Format(StrEnum):
    """The form of the bulletin."""

    text = "text"
    json = "json"
    html = "html"
    docx = "docx"
    pdf = "pdf"
    xlsx = "xlsx"


PRINTED = (Format.text, Format.json)
"""Forms that go to the terminal unless a file is named."""


def report(
    month: Annotated[str, typer.Argument(help="年月，例 2025-12 (month)")],
    format: Annotated[Format, typer.Option(help="形式 (form)")] = Format.text,  # noqa: A002  (the option's name)
    out: Annotated[
        Path | None, typer.Option(help="写到哪个文件；text 与 json 默认输出到终端 (file to write)", dir_okay=False)
    ] = None,
    bulletin: Annotated[
        Path, typer.Option(help="栏目稿件与版式所在目录 (folder of the editors' items)", file_okay=False)
    ] = Path("bulletin"),
    issued: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="出刊日期，默认按工作日推算 (date of the issue)")
    ] = None,
) -> None:
    """出一期月报：数字来自事件，稿件来自目录 (an issue of the monthly bulletin)."""
    try:
        settings = settings_for_cli()
        composed = compose(settings, month, bulletin, issued.date() if issued else None)
        content = _written(format, composed.bulletin, settings.language)
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


def compose(settings: Settings, month: str, folder: Path, issued_on: date | None = None) -> Composed:
    """Return an issue, all of its figures of one moment; raises HongyanError."""
    at = Month.parse(month)
    masthead = read_masthead(folder)
    with open_figures(settings) as reader:
        groups = [(g.title_zh, g.ids) for g in reader.metrics.groups if g.name not in masthead.leave_out]
        ids = [metric_id for _, listed in groups for metric_id in listed]
        if not reader.events(at) and not any(reader.published(metric_id, at) is not None for metric_id in ids):
            raise NotFoundError(f"{month} 没有数据 (no data in that month)")
        label = names(symbol_names(load_contracts()), lambda dimension, value: reader.label(dimension, value, month))
        known = standing(reader, at, ids)
        return Composer(reader, groups, label).compose(at, masthead, folder, known, issued_on, settings.language)


def _written(form: Format, bulletin: Bulletin, language: str) -> bytes:
    """Return the bulletin in a form. What a form needs is imported with it: a text need not wait for a typesetter."""
    from services.reporting import plain

    def pdf() -> bytes:
        from services.reporting.typesetting import to_pdf

        return to_pdf(bulletin)

    def docx() -> bytes:
        from services.reporting.docx import to_docx

        return to_docx(bulletin)

    def xlsx() -> bytes:
        from services.reporting.xlsx import to_xlsx

        return to_xlsx(bulletin)

    def html() -> bytes:
        from services.reporting.html import to_html

        return to_html(bulletin).encode()

    def as_json() -> bytes:
        return (json.dumps(plain.to_json(bulletin), ensure_ascii=False, indent=2) + "\n").encode()

    forms: Mapping[Format, Callable[[], bytes]] = {
        Format.text: lambda: plain.to_text(bulletin, language).encode(),
        Format.json: as_json,
        Format.html: html,
        Format.docx: docx,
        Format.pdf: pdf,
        Format.xlsx: xlsx,
    }
    return forms[form]()


def _failed(error: HongyanError) -> typer.Exit:
    """Say what is wrong, a line for each thing."""
    lines = [f"{p.pointer}: {p.detail}" for p in error.problems] if isinstance(error, InvalidError) else [str(error)]
    for line in lines:
        typer.secho(line, fg=typer.colors.RED, err=True)
    return typer.Exit(1)
