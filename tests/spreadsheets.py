"""Spreadsheets as office programs write them: every text in one table of shared strings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape
from zipfile import ZIP_DEFLATED, ZipFile

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
KIND = "application/vnd.openxmlformats-officedocument.spreadsheetml"
PARTS = {
    "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{KIND}.sheet.main+xml"/>'
    f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{KIND}.worksheet+xml"/>'
    f'<Override PartName="/xl/sharedStrings.xml" ContentType="{KIND}.sharedStrings+xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships">'
    f'<Relationship Id="r1" Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}">'
    '<sheets><sheet name="办件" sheetId="1" r:id="r1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{PACKAGE}/relationships">'
    f'<Relationship Id="r1" Type="{OFFICE}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
}


def write_shared(path: Path, lines: Iterable[Sequence[str]]) -> Path:
    """Write lines of text, the header first; constant memory but for the strings that repeat."""
    with ZipFile(path, "w", ZIP_DEFLATED, compresslevel=1) as book:
        for name, text in PARTS.items():
            book.writestr(name, text)
        strings = path.with_suffix(".strings")
        with book.open("xl/worksheets/sheet1.xml", "w") as sheet, strings.open("w", encoding="utf-8") as table:
            sheet.write(f'<worksheet xmlns="{MAIN}"><sheetData>'.encode())
            table.write(f'<sst xmlns="{MAIN}">')
            count = 0
            for number, line in enumerate(lines, start=1):
                cells = "".join(f'<c t="s"><v>{count + n}</v></c>' for n in range(len(line)))
                sheet.write(f'<row r="{number}">{cells}</row>'.encode())
                table.writelines(f"<si><t>{escape(text)}</t></si>" for text in line)
                count += len(line)
            sheet.write(b"</sheetData></worksheet>")
            table.write("</sst>")
        book.write(strings, "xl/sharedStrings.xml")
        strings.unlink()
    return path
