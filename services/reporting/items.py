"""Sections two to four: Markdown items that editors write, with figures inserted by name.

``bulletin/2025-12/3-01-NAME.md``: the first number is the section, the second the order. The first line may be a
heading (``# …``). ``{{ figure:project_services }}`` is a figure with its unit; ``{{ literal:300余人 }}`` is a number
that is no statistic and that the editor vouches for. Digits elsewhere are refused but in dates, ordinals, names in
quotation marks and titles: a number that was typed is a number that nobody can trace.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from services.reporting.bulletin import CHINESE_NUMERALS, Paragraph, Part, Section, shown
from services.runtime.errors import FieldProblem, InvalidError, NotFoundError
from services.statistics.figure import Figure

_NAME = re.compile(r"(?P<section>[2-9])-(?P<order>\d{2})(?:-.*)?\.md")
_INSERTED = re.compile(r"\{\{(.*?)\}\}")
_PLACED = re.compile(r"\s*(?P<kind>figure|literal)\s*:\s*(?P<name>.*?)\s*")
_DIGIT = re.compile(r"[0-9０-９]+(?:[.．,，][0-9０-９]+)*")
_FREE = (
    re.compile(r"[0-9]{4} ?(?:年|—|-|–)(?: ?[0-9]{4} ?年)?"),
    re.compile(r"[0-9]{1,2} ?月(?: ?[0-9]{1,2} ?日)?(?:(?:至|—|-|–) ?[0-9]{1,2} ?日)?"),
    re.compile(r"第 ?[0-9]+ ?[次届期号条款批轮]"),
    re.compile(r"“[^”]*”|《[^》]*》|〔[^〕]*〕"),
)
_SPOKEN = re.compile(
    r"[一二三四五六七八九]?[十百千万亿][一二三四五六七八九十百千万亿]*余?(?:[个家件次项场名人份]|部门)"
)
_MARKDOWN = MarkdownIt("zero").enable(["emphasis", "heading", "newline"])

_IDEOGRAPH = re.compile("[\u4e00-\u9fff]")

Lookup = Callable[[str], Figure]


@dataclass(frozen=True, slots=True)
class Items:
    """What the editors' items came to: sections by number, and what to look at before printing."""

    sections: Sequence[tuple[str, Section]]
    warnings: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Place:
    """A line of a file."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


def read_items(folder: Path, headings: dict[str, str], lookup: Lookup) -> Items:
    """Read a month's items; raises InvalidError with file and line for every name unknown and number typed by hand.

    A section without items is left out, with a warning: an empty heading would say that nothing happened.
    """
    if not folder.is_dir():
        return Items([], [f"没有稿件目录 {folder.resolve()}，用 --bulletin 指明它的上级 (no such folder)"])
    problems: list[FieldProblem] = []
    warnings: list[str] = []
    paragraphs: dict[str, list[Paragraph]] = {number: [] for number in headings}
    for path in sorted(folder.glob("*.md")):
        named = _NAME.fullmatch(path.name)
        if named is None or named["section"] not in headings:
            detail = f"文件名应为 栏目-序号-名称.md，栏目为 (named section-order-name.md) {', '.join(headings)}"
            problems.append(FieldProblem(str(path), detail))
            continue
        found = list(_Reader(path, lookup, problems, warnings).paragraphs())
        paragraphs[named["section"]].append([part for paragraph in found for part in paragraph])
    if problems:
        raise InvalidError(problems)
    sections = []
    for number, heading in headings.items():
        if paragraphs[number]:
            sections.append((number, Section(heading, list(_numbered(paragraphs[number])))))
        else:
            warnings.append(f"{folder}: 没有栏目 {number}（{heading}）的内容 (no items for this section)")
    return Items(sections, warnings)


def _numbered(paragraphs: Sequence[Paragraph]) -> Iterator[Paragraph]:
    """Number items as the bulletin does, where there are several."""
    for number, paragraph in enumerate(paragraphs, start=1):
        yield [Part(f"（{chinese_numeral(number)}）"), *paragraph] if len(paragraphs) > 1 else paragraph


def chinese_numeral(number: int) -> str:
    """Return a number up to 99 as Chinese numerals."""
    tens, ones = divmod(number, 10)
    digit = ("", *CHINESE_NUMERALS[:9])
    return digit[ones] if not tens else f"{digit[tens] if tens > 1 else ''}十{digit[ones]}"


def _spaced(parts: Sequence[Part]) -> Iterator[Part]:
    """Put a space before a figure that follows a Chinese character, as section one has it."""
    before = ""
    for part in parts:
        wants = part.figure is not None and _IDEOGRAPH.fullmatch(before[-1:])
        yield replace(part, text=f" {part.text}") if wants else part
        before = part.text


class _Reader:
    """Reads one file."""

    def __init__(self, path: Path, lookup: Lookup, problems: list[FieldProblem], warnings: list[str]) -> None:
        self._path = path
        self._lookup = lookup
        self._problems = problems
        self._warnings = warnings

    def paragraphs(self) -> Iterator[Paragraph]:
        """Give the parts of the heading and of each paragraph."""
        try:
            text = self._path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            self._refuse(_Place(self._path, 1), f"不能读取 (can't be read): {error}")
            return
        tokens = _MARKDOWN.parse(text)
        for before, token in zip([None, *tokens], tokens, strict=False):
            if token.type == "inline" and token.map is not None:
                heading = before is not None and before.type == "heading_open"
                yield self._inline(token, token.map[0] + 1, heading)

    def _inline(self, token: Token, line: int, heading: bool) -> list[Part]:
        parts: list[Part] = []
        bold = heading
        for child in token.children or []:
            if child.type in {"strong_open", "strong_close"}:
                bold = heading or child.type == "strong_open"
            elif child.type in {"softbreak", "hardbreak"}:
                line += 1
            elif child.content:
                parts += self._text(child.content, _Place(self._path, line), bold)
        return [*_spaced(parts), *([Part("。", bold=True)] if heading else [])]

    def _text(self, text: str, place: _Place, bold: bool) -> Iterator[Part]:
        position = 0
        for found in _INSERTED.finditer(text):
            yield from self._typed(text[position : found.start()], place, bold)
            yield self._inserted(found[1], place, bold)
            position = found.end()
        yield from self._typed(text[position:], place, bold)

    def _typed(self, text: str, place: _Place, bold: bool) -> Iterator[Part]:
        bare = text
        for free in _FREE:
            bare = free.sub("", bare)
        for digits in _DIGIT.findall(bare):
            self._refuse(
                place,
                f"数字 {digits} 是手写的，请改用 {{{{ figure:指标 }}}}；不是统计数的写成 {{{{ literal:{digits} }}}}"
                " (a number typed by hand)",
            )
        self._warnings += [f"{place}: “{spoken}”像是手写的数 (looks typed)" for spoken in _SPOKEN.findall(bare)]
        if "{{" in text or "}}" in text:
            self._refuse(place, "{{ 与 }} 不成对，或跨行 (braces that do not match on one line)")
        if text:
            yield Part(text, bold=bold)

    def _inserted(self, inside: str, place: _Place, bold: bool) -> Part:
        placed = _PLACED.fullmatch(inside)
        if placed is None or not placed["name"]:
            self._refuse(place, f"应为 figure:指标 或 literal:文字 (figure:metric or literal:text): {inside.strip()}")
            return Part("")
        if placed["kind"] == "literal":
            return Part(placed["name"], bold=bold, literal=True)
        try:
            figure = self._lookup(placed["name"])
        except NotFoundError as error:
            self._refuse(place, str(error))
            return Part("")
        if figure.exact is None:
            self._refuse(place, f"{figure.metric_id} 本月没有值，不能引用 (has no value this month)")
        return Part(shown(figure), figure.metric_id, str(figure.exact), bold)

    def _refuse(self, place: _Place, detail: str) -> None:
        self._problems.append(FieldProblem(str(place), detail))
