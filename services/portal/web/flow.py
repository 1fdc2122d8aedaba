"""The drawing of what flows from departments to agencies: places and widths from numbers, pure.

Departments stand left, agencies right, one line for each pair; a line is as wide as its share of the busiest, and an
agency's mark tells its state by shape as well as by colour.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from services.ledger.flowing import Flow

Look = Literal["ok", "warn", "bad", "off"]
SHAPES: Mapping[Look, str] = {"ok": "circle", "warn": "diamond", "bad": "square", "off": "ring"}
OTHERS = ""
"""The name of what stands for all that have no place of their own."""
THINNEST, WIDEST = 1.5, 14.0
TOP = 12.0


@dataclass(frozen=True, slots=True)
class Paper:
    """How large a drawing is: its width, that of the names at both sides, and the height of a row."""

    width: int = 960
    names: int = 250
    row: int = 40
    letters: int = 16
    rows: int = 20
    """So many departments, and so many agencies, have a place of their own."""


WIDE = Paper()
NARROW = Paper(width=343, names=106, row=46, letters=7, rows=12)


@dataclass(frozen=True, slots=True)
class End:
    """A department or an agency: its name as it is written and whole, its place, and what flowed by it."""

    id: str
    short: str
    name: str
    x: float
    y: float
    number: int
    look: Look = "ok"
    others: int = 0
    """How many it stands for, beyond one of its own."""

    @property
    def shape(self) -> str:
        """Return the form of its mark."""
        return SHAPES[self.look]


@dataclass(frozen=True, slots=True)
class Line:
    """What flowed from a department to an agency: a curve of SVG, its width, and the agency's state."""

    path: str
    width: float
    look: Look
    source: str
    agency: str
    number: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """Everything to draw."""

    width: int
    height: float
    sources: Sequence[End]
    agencies: Sequence[End]
    lines: Sequence[Line]


@dataclass(frozen=True, slots=True)
class Party:
    """A department or an agency to draw: its id, name, and how it stands."""

    id: str
    name: str
    look: Look = "ok"


def draw(flows: Sequence[Flow], sources: Sequence[Party], agencies: Sequence[Party], paper: Paper = WIDE) -> Drawing:
    """Return the drawing. Who is in trouble or busiest has a place of its own; the rest share one."""
    left = _chosen(sources, Counter({p.id: 0 for p in sources}) + _sum(flows, "source"), paper)
    right = _chosen(agencies, _sum(flows, "agency"), paper)
    lefts, rights = {p.id for p in left}, {p.id for p in right}
    numbers: Counter[tuple[str, str]] = Counter()
    for flow in flows:
        ends = (flow.source if flow.source in lefts else OTHERS, flow.agency if flow.agency in rights else OTHERS)
        numbers[ends] += flow.routed
    rows = max(len(left) + (len(sources) > len(left)), len(right) + (len(agencies) > len(right)), 1)
    height = TOP * 2 + paper.row * rows
    from_ends = _placed(left, len(sources) - len(left), paper.names, height, numbers, 0, paper)
    to_ends = _placed(right, len(agencies) - len(right), paper.width - paper.names, height, numbers, 1, paper)
    return Drawing(paper.width, height, from_ends, to_ends, _lines(from_ends, to_ends, numbers))


def _sum(flows: Sequence[Flow], by: Literal["source", "agency"]) -> Counter[str]:
    found: Counter[str] = Counter()
    for flow in flows:
        found[getattr(flow, by)] += flow.routed
    return found


_TROUBLE: Mapping[Look, int] = {"bad": 0, "warn": 1, "off": 2, "ok": 2}


def _chosen(parties: Sequence[Party], numbers: Mapping[str, int], paper: Paper) -> list[Party]:
    ranked = sorted(parties, key=lambda p: (_TROUBLE[p.look], -numbers.get(p.id, 0), p.id))
    room = paper.rows if len(parties) <= paper.rows else paper.rows - 1
    kept = {p.id for p in ranked[:room]}
    return [p for p in parties if p.id in kept]


def _placed(
    parties: Sequence[Party],
    others: int,
    x: float,
    height: float,
    numbers: Mapping[tuple[str, str], int],
    side: Literal[0, 1],
    paper: Paper,
) -> list[End]:
    rest: list[tuple[str, str, Look, int]] = [(OTHERS, "", "ok", others)] if others else []
    ends = [(p.id, p.name, p.look, 0) for p in parties] + rest
    step = (height - 2 * TOP) / max(len(ends), 1)
    totals: Counter[str] = Counter()
    for pair, number in numbers.items():
        totals[pair[side]] += number
    return [
        End(
            name,
            _cut(text, paper.letters),
            text,
            x,
            round(TOP + step * (place + 0.5), 1),
            totals[name],
            look,
            many,
        )
        for place, (name, text, look, many) in enumerate(ends)
    ]


def _lines(sources: Sequence[End], agencies: Sequence[End], numbers: Mapping[tuple[str, str], int]) -> list[Line]:
    froms, tos = {e.id: e for e in sources}, {e.id: e for e in agencies}
    most = max(numbers.values(), default=0)
    found = []
    for (source, agency), number in sorted(numbers.items(), key=lambda one: one[1]):
        if number and source in froms and agency in tos:
            a, b = froms[source], tos[agency]
            found.append(Line(_curve(a, b), _width(number, most), b.look, source, agency, number))
    return found


def _width(number: int, most: int) -> float:
    """Return a line's width: areas that the eye compares grow with the square root."""
    return round(THINNEST + (WIDEST - THINNEST) * math.sqrt(number / most), 1)


def _curve(a: End, b: End) -> str:
    start, end, middle = a.x + 10, b.x - 12, (a.x + b.x) / 2
    return f"M{start:g} {a.y:g}C{middle:g} {a.y:g} {middle:g} {b.y:g} {end:g} {b.y:g}"


def _cut(text: str, letters: int) -> str:
    """Cut a name that is too long; a Chinese letter takes the room of two others."""
    room = letters * 2
    for place, letter in enumerate(text):
        room -= 1 if letter.isascii() else 2
        if room < 0:
            return text[: max(1, place - 1)] + "…"
    return text
