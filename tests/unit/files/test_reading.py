"""Rows of files: encodings, kinds of cells, and memory that does not grow."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from zipfile import ZIP_BZIP2, ZipFile

import pytest
from openpyxl import Workbook

from producers.files.reading import count_rows, read_rows
from services.runtime.errors import InvalidError
from tests.spreadsheets import write_shared

FEW, MANY = 5_000, 20_000
READ = """
import sys, tracemalloc
from pathlib import Path
from producers.files.reading import read_rows

tracemalloc.start()
for _ in read_rows(Path(sys.argv[1])):
    pass
print(tracemalloc.get_traced_memory()[1])
"""


def test_the_encoding_is_told_by_the_whole_file(tmp_path: Path) -> None:
    """GB 18030 with its first Chinese character after a megabyte; a cut character at a block's end is none."""
    path = tmp_path / "late.csv"
    path.write_bytes(("name\n" + "a\n" * 700_000 + "成都\n").encode("gb18030"))
    assert list(read_rows(path))[-1] == (700_002, ["成都"])
    path.write_bytes(("name\n" + "成都\n" * 300_000).encode())
    assert list(read_rows(path))[-1] == (300_001, ["成都"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_each_encoding_gives_the_same_rows(encoding: str, tmp_path: Path) -> None:
    """The first column's name among them, whether a mark stands before it or not."""
    path = tmp_path / "a.csv"
    path.write_bytes("办件编号,部门名称\r\n1,㐂局\r\n\r\n2,\r\n".encode(encoding))
    assert list(read_rows(path)) == [(1, ["办件编号", "部门名称"]), (2, ["1", "㐂局"]), (4, ["2", ""])]
    assert count_rows(path) == 3


def test_cells_of_a_spreadsheet_are_text_as_in_a_csv_file(tmp_path: Path) -> None:
    """Dates without their midnight, whole numbers without a point, gaps as empty cells, shared strings or not."""
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["a", "b", "c", "d", "e"])
    sheet.append([date(2025, 12, 2), datetime(2025, 12, 2, 9, 5), 3.0, 2.5, True])
    sheet["A4"], sheet["C4"] = "x", "z"
    book.save(tmp_path / "a.xlsx")
    assert list(read_rows(tmp_path / "a.xlsx"))[1:] == [
        (2, ["2025-12-02", "2025-12-02T09:05:00", "3", "2.5", "true"]),
        (4, ["x", "", "z", "", ""]),
    ]
    assert count_rows(tmp_path / "a.xlsx") == 3
    shared = write_shared(tmp_path / "b.xlsx", [["名称", "b"], ["<局> & 处", ""], ["", "2"]])
    assert list(read_rows(shared)) == [(1, ["名称", "b"]), (2, ["<局> & 处", ""]), (3, ["", "2"])]


def test_a_number_that_a_spreadsheet_has_cut_is_refused(tmp_path: Path) -> None:
    """An 18-digit code typed as a number has lost its last digits: the cell is named."""
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["code"])
    sheet.append([125101000000000248])
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(InvalidError, match=r"A2: 数字超过 15 位"):
        list(read_rows(tmp_path / "a.xlsx"))


def test_a_number_in_a_column_of_dates_that_is_no_date_is_refused(tmp_path: Path) -> None:
    """A code typed into a column that is formatted as dates: the cell is named, and nothing ends by it."""
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["code"])
    sheet.append([3_000_000])
    sheet["A2"].number_format = "yyyy-mm-dd"
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(InvalidError, match=r"A2: 设为日期的数字"):
        list(read_rows(tmp_path / "a.xlsx"))


def test_an_encrypted_workbook_is_said_to_be_one(tmp_path: Path) -> None:
    """By the mark of an archive's entry, or as packed in a way that no spreadsheet packs."""
    path = tmp_path / "packed.xlsx"
    with ZipFile(write_shared(tmp_path / "a.xlsx", [["a"], ["1"]])) as whole, ZipFile(path, "w", ZIP_BZIP2) as packed:
        for entry in whole.infolist():
            packed.writestr(entry.filename, whole.read(entry))
    with pytest.raises(InvalidError, match="加了密"):
        list(read_rows(path))


@pytest.mark.parametrize("rows", ['1,"x\n2,y\n', '1,"x\n2,"y"\n', '1,"x"y\n'])
def test_a_quote_that_swallows_rows_is_refused_with_the_row_that_it_begins_in(rows: str, tmp_path: Path) -> None:
    """Never closed, closed by another row's quote, or with text behind it: nothing after it can be trusted."""
    path = tmp_path / "a.csv"
    path.write_text("a,b\n0,z\n" + rows, encoding="utf-8")
    with pytest.raises(InvalidError, match=r"a\.csv .*从第 3 行起 .*引号不成对"):
        list(read_rows(path))


def test_what_is_no_workbook_or_a_cut_one_is_said_to_be_one(tmp_path: Path) -> None:
    """Text under a wrong name, an archive of something else, a sheet that breaks off, an old kind of file."""
    (tmp_path / "text.xlsx").write_text("a,b\n")
    with ZipFile(tmp_path / "other.xlsx", "w") as archive:
        archive.writestr("a.txt", "a")
    whole = write_shared(tmp_path / "whole.xlsx", [["a"], *([str(n)] for n in range(2000))]).read_bytes()
    (tmp_path / "cut.xlsx").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "old.xls").write_bytes(b"\xd0\xcf\x11\xe0")
    for name in ("text.xlsx", "other.xlsx", "cut.xlsx", "old.xls"):
        with pytest.raises(InvalidError, match=name):
            list(read_rows(tmp_path / name))


def lines(count: int) -> Iterator[list[str]]:
    """Give a header and so many rows, no two alike."""
    yield ["办件编号", "部门名称"]
    for number in range(count):
        yield [f"SYN-{number:08d}", f"合成部门 {number}"]


def written(path: Path, count: int) -> Path:
    """Write so many rows as the kind of file that the name says."""
    if path.suffix == ".xlsx":
        return write_shared(path, lines(count))
    path.write_text("".join(f"{a},{b}\n" for a, b in lines(count)), encoding="utf-8")
    return path


def peak_bytes(path: Path) -> int:
    """Return the peak of memory, in bytes, that reading a file takes in a process in which nothing else runs."""
    done = subprocess.run([sys.executable, "-c", READ, path], check=True, capture_output=True, text=True, timeout=120)
    return int(done.stdout)


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_memory_does_not_grow_with_the_file(kind: str, tmp_path: Path) -> None:
    """Four times the rows, none of their strings alike, and the peak is the same."""
    few = peak_bytes(written(tmp_path / f"few.{kind}", FEW))
    many = peak_bytes(written(tmp_path / f"many.{kind}", MANY))
    assert many < few + 1_000_000  # the caches fill; kept strings or rows alone would be four times that
