"""Draws charts as SVG: no script, nothing loaded, readable in grey, each with a title that a reader hears."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from html import escape
from itertools import pairwise

from schemas.formats import divisions
from services.reporting.bulletin import NO_DATA, Chart, Point

WIDTH = 720
FONT = "Noto Sans SC, Source Han Sans SC, PingFang SC, Microsoft YaHei, SimHei, sans-serif"
INK, SOFT, LINE, ACCENT = "#1f2937", "#5b6470", "#d5dae0", "#9b1c1c"
SHADES = ("#7f1d1d", "#b45353", "#d9a0a0", "#ecd0d0", "#9ca3af", "#d1d5db")
"""Steps of lightness that stay apart in grey."""
TILES: Mapping[str, tuple[int, int]] = {
    "513200": (1, 0), "510700": (2, 0), "510800": (3, 0), "511900": (4, 0), "511700": (5, 0),
    "513300": (0, 1), "510100": (1, 1), "510600": (2, 1), "510900": (3, 1), "511300": (4, 1), "511600": (5, 1),
    "511800": (0, 2), "511400": (1, 2), "512000": (2, 2), "511000": (3, 2),
    "513400": (0, 3), "511100": (1, 3), "510300": (2, 3), "510500": (3, 3),
    "510400": (0, 4), "511500": (2, 4),
}  # fmt: skip
"""Where each city's tile stands, (column, row), about as they lie on the map."""
SHORT_NAMES = {"513200": "阿坝", "513300": "甘孜", "513400": "凉山"}


def draw(chart: Chart) -> str:
    """Return a chart as an SVG element."""
    if chart.empty:
        return _svg(chart, 80, [_text(WIDTH / 2, 45, NO_DATA, anchor="middle", size=16, fill=SOFT)])
    height, shapes = _DRAWN[chart.kind](chart)
    return _svg(chart, height, shapes)


def _svg(chart: Chart, height: float, shapes: Sequence[str]) -> str:
    name = escape(f"{chart.title}（{chart.unit}）" if chart.unit else chart.title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" role="img" aria-labelledby="{chart.id}-title" font-family="{FONT}">'
        f'<title id="{chart.id}-title">{name}</title>{"".join(shapes)}</svg>'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 13, fill: str = INK) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{fill}">{escape(text)}</text>'
    )


def _rect(x: float, y: float, width: float, height: float, fill: str, stroke: str = "none") -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" '
        f'fill="{fill}" stroke="{stroke}"/>'
    )


def _rule(x1: float, y1: float, x2: float, y2: float, stroke: str = LINE) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}"/>'


def _line(chart: Chart) -> tuple[float, list[str]]:
    """Months along, values up from zero; a month without data is a gap that says so."""
    left, right, top, bottom = 24.0, WIDTH - 24.0, 36.0, 210.0
    most = max((p.value for p in chart.points if p.value is not None), default=Decimal(1)) or Decimal(1)
    step = (right - left) / max(1, len(chart.points))
    placed = [
        (left + step * (n + 0.5), None if p.value is None else bottom - float(p.value / most) * (bottom - top), p)
        for n, p in enumerate(chart.points)
    ]
    shapes = [_text(left, 16, f"单位：{chart.unit}", size=12, fill=SOFT), _rule(left, bottom, right, bottom, SOFT)]
    for (x1, y1, _), (x2, y2, _) in pairwise(placed):
        if y1 is not None and y2 is not None:
            shapes.append(
                f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{ACCENT}" stroke-width="2"/>'
            )
    for number, (x, y, point) in enumerate(placed):
        shapes += _line_point(x, y, point, bottom)
        shapes += _month_labels(x, point.label, bottom, first=number == 0)
    return bottom + 46, shapes


def _line_point(x: float, y: float | None, point: Point, bottom: float) -> Iterator[str]:
    if y is None:
        yield _text(x, bottom - 8, NO_DATA, anchor="middle", size=11, fill=SOFT)
        return
    fill = "#ffffff" if point.note else ACCENT
    yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}" stroke="{ACCENT}" stroke-width="2"/>'
    yield _text(x, y - 10, point.shown, anchor="middle", size=12)


def _month_labels(x: float, label: str, bottom: float, *, first: bool) -> Iterator[str]:
    year, _, month = label.partition(" 年 ")
    yield _text(x, bottom + 18, month.replace(" ", ""), anchor="middle", size=12)
    if first or month.startswith("1 "):
        yield _text(x, bottom + 36, f"{year}年", anchor="middle", size=12, fill=SOFT)


def _bars(chart: Chart) -> tuple[float, list[str]]:
    """A bar for each point, the name at its left and the value at its end."""
    left, right, pitch = 168.0, WIDTH - 90.0, 26.0
    most = max((p.value for p in chart.points if p.value is not None), default=Decimal(1)) or Decimal(1)
    shapes = [_text(left, 16, f"单位：{chart.unit}", size=12, fill=SOFT)]
    for number, point in enumerate(chart.points):
        y = 28 + number * pitch
        length = float((point.value or Decimal(0)) / most) * (right - left)
        shapes.append(_text(left - 10, y + 13, _cut(point.label, 11), anchor="end"))
        shapes.append(_rect(left, y, length, 17, SHADES[0] if number == 0 else SHADES[1]))
        shapes.append(_text(left + length + 8, y + 13, point.shown, size=12))
    return 28 + len(chart.points) * pitch + 6, shapes


def _shares(chart: Chart) -> tuple[float, list[str]]:
    """One bar of all, its parts in steps of lightness, with what each part is below it."""
    values = [point.value or Decimal(0) for point in chart.points]
    total = sum(values, Decimal(0)) or Decimal(1)
    shapes: list[str] = []
    x = 0.0
    for number, value in enumerate(values):
        width = float(value / total) * WIDTH
        shapes.append(_rect(x, 8, width, 44, SHADES[number % len(SHADES)], "#ffffff"))
        x += width
    for number, (point, value) in enumerate(zip(chart.points, values, strict=True)):
        y = 70 + number * 24
        share = f"{value / total * 100:.1f}%"
        shapes.append(_rect(0, y, 14, 14, SHADES[number % len(SHADES)], SOFT))
        shapes.append(_text(22, y + 12, f"{point.label}　{share}　{point.shown} {chart.unit}"))
    return 70 + len(chart.points) * 24 + 4, shapes


def _tiles(chart: Chart) -> tuple[float, list[str]]:
    """A tile for each city, darker where there is more; what is no city stands below."""
    size, gap = 100.0, 6.0
    known = {point.key: point for point in chart.points}
    values = [p.value for key, p in known.items() if key in TILES and p.value is not None]
    most = max(values, default=Decimal(1)) or Decimal(1)
    shapes: list[str] = []
    for key, (column, row) in TILES.items():
        point = known.get(key)
        shapes += _tile(key, point, (column * (size + gap) + 42, row * 66.0 + 4), most)
    others = [point for key, point in known.items() if key not in TILES]
    y = 5 * 66.0 + 24
    for number, point in enumerate(others[:4]):
        shapes.append(_text(42, y + number * 20, f"{point.label}　{point.shown} {chart.unit}", fill=SOFT))
    return y + 20 * min(len(others), 4), shapes


def _tile(key: str, point: Point | None, at: tuple[float, float], most: Decimal) -> Iterator[str]:
    x, y = at
    value = point.value if point is not None else None
    depth = 0.0 if value is None else float(value / most)
    fill, ink = ("#f3f4f6", SOFT) if value is None else (_mixed(depth), "#ffffff" if depth > 0.55 else INK)
    yield _rect(x, y, 100, 60, fill, LINE)
    yield _text(x + 50, y + 25, _short(key, point), anchor="middle", size=14, fill=ink)
    yield _text(x + 50, y + 46, point.shown if point is not None else NO_DATA, anchor="middle", size=13, fill=ink)


def _short(key: str, point: Point | None) -> str:
    if key in SHORT_NAMES:
        return SHORT_NAMES[key]
    name = point.label if point is not None else divisions().get(key, key)
    return name.removesuffix("市")


def _mixed(depth: float) -> str:
    """Return a colour between light and dark."""
    light, dark = (0xFB, 0xEE, 0xEE), (0x7F, 0x1D, 0x1D)
    return "#" + "".join(f"{round(a + (b - a) * depth):02x}" for a, b in zip(light, dark, strict=True))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


_DRAWN: Mapping[str, Callable[[Chart], tuple[float, list[str]]]] = {
    "line": _line,
    "bars": _bars,
    "shares": _shares,
    "tiles": _tiles,
}
