"""Names of dimensions' values: departments and divisions by their tables, fixed symbols by the doc of their field."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from schemas.contracts import Contracts

_ENGLISH = re.compile(r"\s*\([^()]*\)\s*$")


def symbol_names(contracts: Contracts) -> Mapping[str, Mapping[str, str]]:
    """Return names by field and symbol, as docs say them: ``办理方式：online 全程网办 | window 窗口办理 (…)``."""
    found: dict[str, dict[str, str]] = {}
    for contract in contracts.types.values():
        for field in contract.fields():
            if "symbols" in field:
                found.setdefault(field["name"], {}).update(symbols_of(field["doc"]))
    return found


def symbols_of(doc: str) -> Mapping[str, str]:
    """Return the names of a field's symbols that its doc tells."""
    _, _, listed = _ENGLISH.sub("", doc).partition("：")
    pairs = (part.strip().partition(" ") for part in listed.split("|"))
    return {symbol: name.strip() for symbol, _, name in pairs if name.strip()}


def names(symbols: Mapping[str, Mapping[str, str]], label: Callable[[str, str], str]) -> Callable[[str, str], str]:
    """Return what gives a value's name: ``label`` knows departments and divisions; an empty value is said to be."""

    def name(dimension: str, value: str) -> str:
        if not value:
            return "未填"
        return symbols.get(dimension, {}).get(value) or label(dimension, value)

    return name
