"""Golden texts: what a form said when somebody looked at it and found it right.

With ``HONGYAN_GOLDEN=write`` the file is written anew and the test fails all the same: look at the change, run again.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "data" / "bulletin"


def assert_golden(name: str, text: str) -> None:
    """Assert that a text is the golden one."""
    path = FOLDER / name
    if os.environ.get("HONGYAN_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
        raise AssertionError(f"{path} was written anew: look at it, and run the test again without HONGYAN_GOLDEN")
    assert text == path.read_text(encoding="utf-8")
