"""Rows of a CSV or XLSX file, one at a time, with their numbers as a spreadsheet shows them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from pathlib import Path

from services.runtime.errors import FieldProblem, InvalidError

Row = tuple[int, Mapping[str, str]]
_SAMPLE = 64 * 1024


def read_rows(path: Path) -> Iterator[Row]:
    """Give (row number, column → text); the header is row 1. Raises InvalidError for a file that can't be read."""
    try:
        if path.suffix.lower() == ".xlsx":
            yield from _xlsx(path)
        else:
            yield from _csv(path)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError, KeyError) as error:
        raise InvalidError([FieldProblem("/file", f"{path.name} 读不了 (can't be read): {error}")]) from error


def count_rows(path: Path) -> int | None:
    """Return about how many rows a CSV file has, for the progress bar; None where counting would cost a full read."""
    if path.suffix.lower() == ".xlsx":
        return None
    with path.open("rb") as file:
        return max(0, sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b"")) - 1)


def _csv(path: Path) -> Iterator[Row]:
    with path.open(encoding=_encoding(path), newline="") as file:
        reader = csv.reader(file)
        header = [name.strip() for name in next(reader, [])]
        _check_header(header)
        for values in reader:
            if any(values):
                yield reader.line_num, dict(zip(header, values, strict=False))


def _encoding(path: Path) -> str:
    """Tell UTF-8 (with or without mark) from GB 18030, which spreadsheets here often write."""
    with path.open("rb") as file:
        sample = file.read(_SAMPLE)
    try:
        # A character may be cut at the sample's end.
        sample[: sample.rfind(b"\n") + 1].decode("utf-8-sig")
    except UnicodeDecodeError:
        return "gb18030"
    return "utf-8-sig"


def _xlsx(path: Path) -> Iterator[Row]:
    from openpyxl import load_workbook  # costs every command a tenth of a second, and few files need it

    book = load_workbook(path, read_only=True, data_only=True)
    try:
        rows = book.worksheets[0].iter_rows(values_only=True)
        header = [str(name or "").strip() for name in next(rows, ())]
        _check_header(header)
        for number, values in enumerate(rows, start=2):
            if any(value is not None for value in values):
                yield number, dict(zip(header, map(_text, values), strict=False))
    finally:
        book.close()


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _check_header(header: list[str]) -> None:
    if not any(header):
        raise ValueError("第一行应为列名 (the first row must name the columns)")
    doubled = sorted({name for name in header if name and header.count(name) > 1})
    if doubled:
        raise ValueError(f"列名重复 (columns named twice): {', '.join(doubled)}")
