"""Rows of a CSV or XLSX file, one at a time, with their numbers as a spreadsheet shows them."""

from __future__ import annotations

import csv
from codecs import BOM_UTF8, getincrementaldecoder
from collections.abc import Iterator, Sequence
from pathlib import Path

from services.runtime.errors import FieldProblem, InvalidError

Row = tuple[int, Sequence[str]]
FILE_KINDS = (".csv", ".txt", ".xlsx")
_BLOCK = 1 << 16


def read_rows(path: Path) -> Iterator[Row]:
    """Give (row number, cells), the header first; empty rows are left out.

    Memory is constant, however long the file. Raises InvalidError for a file that can't be read.
    """
    if path.suffix.lower() not in FILE_KINDS:
        raise _unreadable(path, f"应为 {' '.join(FILE_KINDS)}，其他格式请另存 (save it as one of these)")
    try:
        rows = _xlsx(path) if _is_xlsx(path) else _csv(path)
        number, cells = next(rows, (1, []))
        header = _header(cells)
        yield number, header
        for number, values in rows:
            # A sheet does not keep the empty cells at the end of a row; in a CSV file a short row has lost some.
            yield number, [*values, *[""] * (len(header) - len(values))] if _is_xlsx(path) else values
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise _unreadable(path, str(error)) from error


def count_rows(path: Path) -> int | None:
    """Return about how many rows a file has, for the progress bar; None where it does not say."""
    if not _is_xlsx(path):
        return max(0, sum(block.count(b"\n") for block in _blocks(path)) - 1)
    from producers.files.xlsx import BROKEN, xlsx_count

    try:
        return xlsx_count(path)
    except (*BROKEN, ValueError, OSError):
        return None  # the import itself will say what is wrong


def _is_xlsx(path: Path) -> bool:
    return path.suffix.lower() == ".xlsx"


def _csv(path: Path) -> Iterator[Row]:
    with path.open(encoding=_encoding(path), newline="") as file:
        reader = csv.reader(file, strict=True)
        first = 1
        try:
            for values in reader:
                if any(values):
                    yield reader.line_num, values
                first = reader.line_num + 1
        except csv.Error as error:
            detail = "引号不成对，或引号后还有文字 (a quote that is not closed, or text behind a closing one)"
            raise ValueError(f"从第 {first} 行起 (from row {first} on): {detail}: {error}") from error


def _xlsx(path: Path) -> Iterator[Row]:
    from producers.files.xlsx import BROKEN, xlsx_rows  # costs every command a tenth of a second, and few files need it

    try:
        for number, values in xlsx_rows(path):
            if any(values):
                yield number, values
    except BROKEN as error:
        raise ValueError(f"不是完好的 XLSX (not a sound XLSX file): {type(error).__name__} {error}") from error


def _encoding(path: Path) -> str:
    """Tell UTF-8 (with or without mark) from GB 18030, which spreadsheets here often write, by the whole file.

    A long file may well have its first Chinese character late.
    """
    decoder = getincrementaldecoder("utf-8")()
    try:
        for number, block in enumerate(_blocks(path)):
            if number == 0 and block.startswith(BOM_UTF8):
                break
            decoder.decode(block)
        else:
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "gb18030"
    return "utf-8-sig"


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(_BLOCK), b"")


def _header(cells: Sequence[str]) -> list[str]:
    header = [name.strip() for name in cells]
    if not any(header):
        raise ValueError("第一行应为列名 (the first row must name the columns)")
    doubled = sorted({name for name in header if name and header.count(name) > 1})
    if doubled:
        raise ValueError(f"列名重复 (columns named twice): {', '.join(doubled)}")
    return header


def _unreadable(path: Path, why: str) -> InvalidError:
    return InvalidError([FieldProblem("/file", f"{path.name} 读不了 (can't be read): {why}")])
