"""``hongyan report``: the figures of a month."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from services.reporting.rendering import print_section, sentence
from services.reporting.section_one import section_one
from services.runtime.errors import HongyanError
from services.runtime.settings import settings_for_cli
from services.statistics.opening import open_figures


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
        settings = settings_for_cli()
        with open_figures(settings) as reader:
            section = section_one(reader, month)
    except HongyanError as error:
        typer.secho(str(error), fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error
    if format is Format.json:
        found = section.to_json() | {"sentence": sentence(section, settings.language)}
        typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        print_section(section, Console(), settings.language)
