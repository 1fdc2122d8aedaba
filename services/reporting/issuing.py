"""An issue of the bulletin as a command and a page give it out: composed from one moment's figures, in any form."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date
from enum import StrEnum
from pathlib import Path

from schemas.contracts import load_contracts
from services.reporting.bulletin import Bulletin
from services.reporting.composing import Composed, Composer
from services.reporting.masthead import read_masthead
from services.reporting.naming import names, symbol_names
from services.reporting.standing import standing
from services.runtime.errors import NotFoundError
from services.statistics.figure import Month
from services.statistics.reading import FigureReader


class Format(StrEnum):
    """The form of the bulletin."""

    text = "text"
    json = "json"
    html = "html"
    docx = "docx"
    pdf = "pdf"
    xlsx = "xlsx"


MEDIA_TYPES: Mapping[Format, str] = {
    Format.text: "text/plain; charset=utf-8",
    Format.json: "application/json",
    Format.html: "text/html; charset=utf-8",
    Format.docx: "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    Format.pdf: "application/pdf",
    Format.xlsx: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


def compose(
    reader: FigureReader, month: str, folder: Path, issued_on: date | None = None, language: str = "zh"
) -> Composed:
    """Return an issue, all of its figures of one moment; raises NotFoundError for a month without data, InvalidError
    for items that are not in order, and what the figures raise.
    """
    at = Month.parse(month)
    masthead = read_masthead(folder)
    groups = [(g.title_zh, g.ids) for g in reader.metrics.groups if g.name not in masthead.leave_out]
    ids = [metric_id for _, listed in groups for metric_id in listed]
    if (
        not reader.events(at)
        and not reader.deliveries(at)
        and not any(reader.published(metric_id, at) is not None for metric_id in ids)
    ):
        raise NotFoundError(f"{month} 没有数据 (no data in that month)")
    label = names(symbol_names(load_contracts()), lambda dimension, value: reader.label(dimension, value, month))
    known = standing(reader, at, ids)
    return Composer(reader, groups, label).compose(at, masthead, folder, known, issued_on, language)


def written(form: Format, bulletin: Bulletin, language: str) -> bytes:
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
