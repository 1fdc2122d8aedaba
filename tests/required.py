"""Programs that some tests need and this package does not bring."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

import pytest

REQUIRED = "HONGYAN_TESTS_REQUIRE"
"""A list, parted by commas: what a run is bound to have."""


def missing(name: str, programs: Sequence[str], package: str) -> str | None:
    """Return why tests of ``name`` can't run here, None where they can; fails where the run is bound to have it."""
    absent = [program for program in programs if not shutil.which(program)]
    if not absent:
        return None
    reason = f"{', '.join(absent)} is not installed (Debian: apt-get install {package})"
    if name in os.environ.get(REQUIRED, "").split(",") or os.environ.get("CI"):
        pytest.fail(reason)
    return reason
