"""Tables that people read at a terminal: what stands in a cell is anybody's words, and is shown as it was said."""

from __future__ import annotations

import re

from rich.console import RenderableType
from rich.style import StyleType
from rich.table import Column
from rich.table import Table as RichTable
from rich.text import Text

_COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a terminal obeys instead of showing it; only tabs and ends of lines may stand."""


def plain(said: str, style: StyleType = "") -> Text:
    """Return words as text: brackets are no markup, ``:health:`` is no emoji, and nothing commands the terminal."""
    return Text(_COMMANDS.sub("�", said), style)


class Table(RichTable):
    """rich's table, whose title, headers and cells are plain text. To give a cell a style, give a ``Text``."""

    def __init__(self, *headers: Column | str, title: str | None = None) -> None:
        super().__init__(*headers, title=None if title is None else plain(title, "table.title"))
        for column in self.columns:
            column.header = _plain(column.header)

    def add_row(
        self, *renderables: RenderableType | None, style: StyleType | None = None, end_section: bool = False
    ) -> None:
        """Add a row of plain cells."""
        super().add_row(*(None if one is None else _plain(one) for one in renderables), style=style)
        self.rows[-1].end_section = end_section


def _plain(one: RenderableType) -> RenderableType:
    return plain(one) if isinstance(one, str) else one
