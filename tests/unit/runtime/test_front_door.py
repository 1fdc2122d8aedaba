"""The command itself."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import packages_distributions, version

import pytest
from typer.testing import CliRunner

from hongyan import app
from services.runtime.settings import with_environment


def test_the_version_is_told() -> None:
    """As the installed distribution says it."""
    shown = CliRunner().invoke(app, ["--version"])
    assert (shown.exit_code, shown.stdout.strip()) == (0, f"hongyan {version('hongyan')}")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {
                "HONGYAN_GATEWAY__SHARE_PORT": "true",
                "HONGYAN_KAFKA__REPLICATION_FACTOR": "x",
                "HONGYAN_DELIVERY__ALLOWED_NETWORKS": '["10.0.0.1/8"]',
            },
            ["HONGYAN_GATEWAY__SHARE_PORT: 没有这个设置", "_FACTOR: Input should be", "10.0.0.1/8 has host bits set"],
        ),
        ({"HONGYAN_DELIVERY__ALLOWED_NETWORKS": "10.0.0.0/8"}, ["列表写成 JSON"]),
    ],
)
def test_a_bad_setting_is_one_line_that_names_it(variables: dict[str, str], said: list[str]) -> None:
    """For whoever mistyped it: neither lost nor a stack of ours."""
    command = [sys.executable, "-m", "hongyan", "run", "pusher"]
    ended = subprocess.run(command, env=with_environment(variables), capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert len(ended.stderr.splitlines()) == len(said)
    for words in said:
        assert words in ended.stderr


def test_nobody_else_installs_a_package_of_one_of_our_names() -> None:
    """The four folders and the front door are import packages: another distribution's would hide them, or be hidden."""
    shipped = packages_distributions()
    for name in ("services", "schemas", "producers", "consumers", "hongyan"):
        assert set(shipped.get(name, [])) <= {"hongyan"}
