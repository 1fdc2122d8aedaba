"""The Chinese labels that people write above their columns: a field's ``doc`` begins with its own.

``办理方式：online 全程网办 | window 窗口办理 (…)`` is labelled 办理方式, and its symbols 全程网办 and 窗口办理.
"""

from __future__ import annotations

import re
from typing import Any

_LABEL_END = re.compile(r"[（(，：；,:;]")
_CHINESE = r"[\u4e00-\u9fff][^\s|(（]*"


def label_of(doc: str) -> str:
    """Return the label that a ``doc`` begins with."""
    return _LABEL_END.split(doc, maxsplit=1)[0].strip()


def symbol_labels(field: dict[str, Any]) -> dict[str, str]:
    """Return the symbols of a field by their labels, where its ``doc`` gives any."""
    found: dict[str, str] = {}
    for symbol in field.get("symbols", ()):
        match = re.search(rf"(?<!\w){re.escape(symbol)} ({_CHINESE})", field["doc"])
        if match is not None:
            found[match.group(1)] = symbol
    return found
