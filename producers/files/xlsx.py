"""Rows of an XLSX file in constant memory.

openpyxl's read-only mode keeps every shared string and an empty element for every row, and reads a sheet that does not
tell its size twice: of a million rows that is hundreds of megabytes. Here strings lie in a file, and rows are let go.
"""

from __future__ import annotations

import os
import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, time
from functools import lru_cache
from pathlib import Path
from typing import IO, Any
from xml.etree.ElementTree import Element, ParseError
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile

from openpyxl.cell.text import Text
from openpyxl.reader.excel import ExcelReader
from openpyxl.styles.stylesheet import apply_stylesheet
from openpyxl.utils.cell import column_index_from_string
from openpyxl.utils.datetime import from_excel
from openpyxl.utils.exceptions import InvalidFileException
from openpyxl.xml.constants import SHARED_STRINGS, SHEET_MAIN_NS
from openpyxl.xml.functions import iterparse

BROKEN = (
    ParseError,
    BadZipFile,
    zlib.error,
    EOFError,
    InvalidFileException,
    LookupError,
    AttributeError,
    TypeError,
    OverflowError,
)
"""What a file that is no workbook, or a broken one, may raise."""
MAX_UNPACKED_BYTES = 16 * 1024**3
# A spreadsheet's numbers have 15 digits; what was longer has lost the others.
MAX_EXACT = 10**15
_CACHED = 8192
_ENCRYPTED = 0x1
_USUAL_PACKING = {ZIP_STORED, ZIP_DEFLATED}
_NAMESPACE = f"{{{SHEET_MAIN_NS}}}"
_ROW, _DATA, _STRING, _TABLE = (_NAMESPACE + name for name in ("row", "sheetData", "si", "sst"))
_VALUE, _INLINE = _NAMESPACE + "v", _NAMESPACE + "is"
_DIMENSION = re.compile(rb'<dimension ref="[A-Z]+\d+:[A-Z]+(\d+)"')
_DIGITS = "0123456789"

XlsxRow = tuple[int, list[str]]


def xlsx_rows(path: Path) -> Iterator[XlsxRow]:
    """Give (row number, cells as text) of the first sheet; raises ValueError, OSError or one of ``BROKEN``."""
    with ExitStack() as open_files:
        reader = _workbook(path)
        open_files.enter_context(reader.archive)
        part = reader.package.find(SHARED_STRINGS)
        strings = Strings()
        open_files.callback(strings.close)
        if part is not None:
            with reader.archive.open(part.PartName[1:]) as source:
                strings.fill(source)
        sheet = open_files.enter_context(reader.archive.open(_first_sheet(reader)))
        cells = _Cells(strings, reader.wb)
        for number, row in enumerate(_elements(sheet, _ROW, _DATA), start=1):
            yield int(row.get("r", number)), cells.texts(row)


def xlsx_count(path: Path) -> int | None:
    """Return how many rows the first sheet says that it has below its header, None where it doesn't."""
    reader = _workbook(path)
    with reader.archive, reader.archive.open(_first_sheet(reader)) as sheet:
        match = _DIMENSION.search(sheet.read(4096))
    return int(match.group(1)) - 1 if match else None


def _workbook(path: Path) -> Any:  # noqa: ANN401  (openpyxl's reader; its parts are not in the stubs)
    reader: Any = ExcelReader(path, read_only=True, data_only=True)
    entries = reader.archive.infolist()
    if any(entry.flag_bits & _ENCRYPTED or entry.compress_type not in _USUAL_PACKING for entry in entries):
        reader.archive.close()
        raise ValueError("文件加了密，或用了别的压缩方式，请另存 (encrypted, or packed in another way: save it anew)")
    if sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES:
        reader.archive.close()
        raise ValueError(f"解压后超过 {MAX_UNPACKED_BYTES >> 30} GiB (too large when unpacked)")
    reader.read_manifest()
    reader.read_workbook()
    apply_stylesheet(reader.archive, reader.wb)
    return reader


def _first_sheet(reader: Any) -> str:  # noqa: ANN401
    for _, rel in reader.parser.find_sheets():
        if "chartsheet" not in rel.Type:
            return str(rel.target)
    raise ValueError("工作簿里没有工作表 (no sheet)")


def _elements(source: IO[bytes], wanted: str, within: str) -> Iterator[Element]:
    """Give the elements of a kind; each is let go, and taken out of what holds it, when the next is asked for."""
    holder: Element | None = None
    for event, element in iterparse(source, ("start", "end")):
        if event == "start" and element.tag == within:
            holder = element
        elif event == "end" and element.tag == wanted:
            yield element
            if holder is not None:
                holder.clear()


class Strings:
    """A workbook's shared strings, in a file that has no name; the ones lately used are kept."""

    def __init__(self) -> None:
        self._texts = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the object)
        self._ends = tempfile.TemporaryFile()  # noqa: SIM115
        self.get = lru_cache(_CACHED)(self._read)

    def fill(self, source: IO[bytes]) -> None:
        """Write all strings down."""
        end = 0
        self._ends.write(end.to_bytes(8, "big"))
        for element in _elements(source, _STRING, _TABLE):
            end += self._texts.write(_content(element).encode())
            self._ends.write(end.to_bytes(8, "big"))
        self._texts.flush()
        self._ends.flush()

    def _read(self, number: int) -> str:
        ends = os.pread(self._ends.fileno(), 16, number * 8)
        if len(ends) < 16:
            raise IndexError(f"no shared string {number}")
        start, end = int.from_bytes(ends[:8], "big"), int.from_bytes(ends[8:], "big")
        return os.pread(self._texts.fileno(), end - start, start).decode()

    def close(self) -> None:
        """Let the files go."""
        self._texts.close()
        self._ends.close()


class _Cells:
    """Reads the cells of a row as text."""

    def __init__(self, strings: Strings, book: Any) -> None:  # noqa: ANN401
        self._strings = strings
        self._dates: set[int] = book._date_formats
        self._epoch = book.epoch
        self._column = lru_cache(1024)(column_index_from_string)

    def texts(self, row: Element) -> list[str]:
        found: list[str] = []
        for cell in row:
            place = cell.get("r")
            column = self._column(place.rstrip(_DIGITS)) if place else len(found) + 1
            found.extend([""] * (column - 1 - len(found)))
            found.append(self._text(cell, place or f"{row.get('r')}:{column}"))
        return found

    def _text(self, cell: Element, place: str) -> str:
        kind = cell.get("t", "n")
        if kind == "inlineStr":
            inline = cell.find(_INLINE)
            return "" if inline is None else _content(inline)
        value = cell.findtext(_VALUE) or ""
        if not value:
            return ""
        if kind == "s":
            return self._strings.get(int(value))
        if kind == "b":
            return "true" if value == "1" else "false"
        return self._number(value, int(cell.get("s", 0)), place) if kind == "n" else value

    def _number(self, value: str, style: int, place: str) -> str:
        number = float(value)
        if style in self._dates:
            return self._time(number, place)
        if abs(number) >= MAX_EXACT:
            detail = "数字超过 15 位，表格软件已丢失其余各位，请把这一列设为文本"
            raise ValueError(f"{place}: {detail} (a number this long has lost digits; format the column as text)")
        return str(int(number)) if number.is_integer() else repr(number)

    def _time(self, number: float, place: str) -> str:
        try:
            return _time_text(from_excel(number, self._epoch))
        except (ValueError, OverflowError) as error:
            detail = "设为日期的数字不是表格里有的日期，请更正或改为文本"
            raise ValueError(f"{place}: {detail} (no date of a spreadsheet: {number:.15g})") from error


def _content(element: Any) -> str:  # noqa: ANN401  (openpyxl's stubs know no tree of the standard library)
    text = Text.from_tree(element)
    return text.content if text is not None else ""


def _time_text(value: object) -> str:
    """Return a date cell as text; midnight is the date alone, as it would stand in a CSV file."""
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(timespec="seconds")
    return str(value or "")
