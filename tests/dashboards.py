"""The shipped dashboards: the expressions of their panels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "deploy" / "grafana" / "dashboards"


def expressions() -> Iterator[tuple[str, str, str]]:
    """Give each dashboard's file, panel and expression."""
    for file in sorted(FOLDER.glob("*.json")):
        for panel in json.loads(file.read_text("utf-8"))["panels"]:
            for target in panel.get("targets", ()):
                yield file.name, panel["title"], target["expr"]
