"""The command itself."""

from __future__ import annotations

from importlib.metadata import version

from typer.testing import CliRunner

from hongyan import app


def test_the_version_is_told() -> None:
    """As the installed distribution says it."""
    shown = CliRunner().invoke(app, ["--version"])
    assert (shown.exit_code, shown.stdout.strip()) == (0, f"hongyan {version('hongyan')}")
