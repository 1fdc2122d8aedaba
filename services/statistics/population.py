"""Populations: CEL over an event's data, checked when a definition is loaded and evaluated by the CEL library alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import cel

from services.runtime.errors import HongyanError

_FIELD = re.compile(r"\bdata\.([A-Za-z_][A-Za-z0-9_]*)(\s*\()?")
_IN = re.compile(r"\bdata\.(\w+)\s+in\s+\[([^\]]*)\]")
_COMPARED = re.compile(r"\bdata\.(\w+)\s*[=!]=\s*\"([^\"]*)\"")
_TEXT = re.compile(r'"([^"]*)"')
_DATA = re.compile(r"\bdata\b")
_MOST_TOLD = 10_000
_VARIABLES = {"data", "type", "source"}
_ERRORS = (ValueError, TypeError, RuntimeError, KeyError, ArithmeticError)


class PopulationError(HongyanError):
    """A population can't be evaluated."""


class Population:
    """One compiled population."""

    def __init__(self, text: str) -> None:
        try:
            self._program = cel.compile(text)
        except ValueError as error:
            raise PopulationError(f"CEL 不能编译 (does not compile): {error}") from error
        if unknown := sorted(set(self._program.variables()) - _VARIABLES):
            raise PopulationError(f"CEL 只能用 data、type、source (names the unknown {', '.join(unknown)})")
        self.text = text
        self.everything = text.strip() == "true"
        self._fields = tuple(sorted(self.fields()))
        # Where data is named by its fields alone, and no other way, these decide.
        self._by_fields = len(_DATA.findall(text)) == len(_FIELD.findall(text))
        self._told: dict[tuple[object, ...], bool] = {}

    def fields(self) -> frozenset[str]:
        """Return the fields of the data that it names."""
        return frozenset(name for name, _ in _FIELD.findall(self.text))

    def compared(self) -> list[tuple[str, str]]:
        """Return the (field, text) pairs that it compares."""
        pairs = _COMPARED.findall(self.text)
        pairs += [(field, text) for field, texts in _IN.findall(self.text) for text in _TEXT.findall(texts)]
        return pairs

    def holds(self, kind: str, source: str, data: Mapping[str, Any]) -> bool:
        """Tell whether an event belongs to it; raises PopulationError when that can't be told: no event is passed over.

        Fields that the event does not have are null.
        """
        if self.everything:
            return True
        if not self._by_fields:
            return self._evaluate(kind, source, data)
        asked = (kind, source, *(data.get(name) for name in self._fields))
        found = self._told.get(asked)
        if found is None:
            found = self._evaluate(kind, source, data)
            if len(self._told) < _MOST_TOLD:
                self._told[asked] = found
        return found

    def _evaluate(self, kind: str, source: str, data: Mapping[str, Any]) -> bool:
        try:
            found = self._program.execute({"type": kind, "source": source, "data": data})
        except _ERRORS as error:
            raise PopulationError(f"不能求值 (can't be evaluated) on {kind}: {error}") from error
        if not isinstance(found, bool):
            raise PopulationError(f"应得 true 或 false (is to give true or false): {found!r}")
        return found


@cache
def population(text: str) -> Population:
    """Return the compiled population; raises PopulationError."""
    return Population(text)
