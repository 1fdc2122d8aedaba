"""``hongyan report``: the figures of a month."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from services.reporting.section_one import SectionOne, section_one
from services.runtime.database import dsn_of
from services.runtime.errors import HongyanError
from services.runtime.settings import settings_for_cli
from services.statistics.repository import figures


class Format(StrEnum):
    """How the report is printed."""

    text = "text"
    json = "json"


def report(
    month: Annotated[str, typer.Argument(help="年月，例 2025-12 (month)")],
    format: Annotated[Format, typer.Option(help="输出形式 (form)")] = Format.text,  # noqa: A002  (the option's name)
) -> None:
    """月报第一部分的数字：精确值、显示值与单位 (section one of the monthly report)."""
    try:
        with figures(dsn_of(settings_for_cli().database)) as reader:
            section = section_one(reader, month)
    except HongyanError as error:
        typer.secho(str(error), fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error
    if format is Format.json:
        typer.echo(json.dumps(section.to_json(), ensure_ascii=False, indent=2))
    else:
        print_section(section)


def print_section(section: SectionOne) -> None:
    """Print the section as a table and in words."""
    console = Console()
    if section.events == 0:
        console.print(f"{section.month} 没有数据 (no data in this month)", highlight=False)
        return
    table = Table(title=f"{section.month} 总体运行情况（第一部分）")
    table.add_column("指标")
    for column in ("精确值", "显示值"):
        table.add_column(column, justify="right")
    table.add_column("单位")
    for figure in section.figures:
        table.add_row(figure.label_zh, f"{figure.exact} {figure.unit}", figure.shown, figure.shown_unit)
    console.print(table)
    console.print(section.sentence(), highlight=False)
    console.print(f"由 {section.events} 个事件统计，按发生时间（上海）归月 (counted by event time)", highlight=False)
