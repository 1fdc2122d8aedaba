"""The event types that the statistics themselves must know, as data (``types.yaml``)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml


@cache
def event_types() -> Mapping[str, Mapping[str, str]]:
    """Return the types by their part in ``balance`` and ``announced``."""
    found: Mapping[str, Mapping[str, str]] = yaml.safe_load(
        Path(__file__).with_name("types.yaml").read_text(encoding="utf-8")
    )
    return found
