"""What ``hongyan up`` prints when all is ready."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.runtime.commands import print_stack
from services.runtime.settings import Settings
from services.runtime.stack import Stack


def test_it_says_how_to_sign_in_on_a_narrow_terminal_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first account by its one-time password, unbroken; once somebody has come in, how to get another."""
    monkeypatch.setenv("COLUMNS", "40")
    stack = Stack(tmp_path, Settings(), {"portal": "http://127.0.0.1:8082"})
    print_stack(stack, as_json=False, account=("admin", "k7mw-2qpd-9xha"))
    first = capsys.readouterr().out
    print_stack(stack, as_json=False, account=None)
    later = capsys.readouterr().out
    assert "k7mw-2qpd-9xha" in first and "admin" in first
    assert "person password" in later and "k7mw" not in later
