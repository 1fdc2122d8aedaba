"""What the pages say: Chinese in the templates and the code, English beside it in ``en/<area>.yaml``."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml
from markupsafe import Markup

Language = Literal["zh", "en"]
LANGUAGES: tuple[Language, ...] = ("zh", "en")
_FOLDER = Path(__file__).parent / "en"


class Text(str):
    """A Chinese text that people read; its English stands in a file of ``en/``."""

    __slots__ = ()


@lru_cache
def english() -> dict[str, str]:
    """Return the English of every text."""
    found: dict[str, str] = {}
    for file in sorted(_FOLDER.glob("*.yaml")):
        found |= yaml.safe_load(file.read_text(encoding="utf-8"))
    return found


def say(language: Language, text: str, **values: object) -> Markup:
    """Return a text in a language, its ``{names}`` filled in and escaped. One without English stays as it is."""
    said = Markup(english().get(text, text) if language == "en" else text)  # noqa: S704  (ours, never a reader's)
    return said.format(**values) if values else said
