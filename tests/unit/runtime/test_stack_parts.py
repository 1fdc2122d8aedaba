"""The pure parts of starting an installation."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.runtime.embedded import kafka
from services.runtime.embedded.kafka import EmbeddedKafka, escaped
from services.runtime.settings import STACK_FILE, Settings, as_environment, settings_for_cli
from services.runtime.stack import Stack, without_password, write_private


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings with something changed on every level."""
    for name in as_environment(Settings()):
        monkeypatch.delenv(name)
    found = Settings(data_dir=tmp_path, language="en")
    found.kafka.bootstrap_servers = "127.0.0.1:1"
    found.database.dsn = SecretStr("postgresql://postgres:geheim@127.0.0.1:2/hongyan")
    found.delivery.allowed_networks = ["127.0.0.0/8"]
    found.router.batch = 7
    return found


def test_settings_survive_the_way_through_the_environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child reads from its environment exactly the settings that its parent had."""
    for name, value in as_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_defaults_are_not_passed_on() -> None:
    """Only what differs is spelled out."""
    assert "HONGYAN_ROUTER__BATCH" not in as_environment(Settings())


def test_commands_find_the_stack_of_their_data_folder(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a running installation published is what a command in the same folder uses, without any environment."""
    Stack(settings.data_dir, settings).publish()
    monkeypatch.setenv("HONGYAN_DATA_DIR", str(settings.data_dir))
    assert settings_for_cli().model_dump() == settings.model_dump()


def test_the_environment_goes_before_the_stack(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting given by hand wins over what the installation published."""
    Stack(settings.data_dir, settings).publish()
    monkeypatch.setenv("HONGYAN_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("HONGYAN_KAFKA__BOOTSTRAP_SERVERS", "elsewhere:9092")
    assert settings_for_cli().kafka.bootstrap_servers == "elsewhere:9092"


def test_what_is_published_is_private_and_withdrawn(settings: Settings) -> None:
    """The file holds secrets: only we may read it, and it is gone when the installation is."""
    stack = Stack(settings.data_dir, settings)
    stack.publish()
    file = settings.data_dir / STACK_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    stack.withdraw()
    assert not file.exists()


def test_what_is_printed_holds_no_secret(settings: Settings) -> None:
    """The JSON line may go into a log."""
    stack = Stack(settings.data_dir, settings, {"postgres": without_password("postgresql://p:geheim@h:1/d")})
    assert "geheim" not in json.dumps(stack.to_json())
    assert stack.addresses["postgres"] == "postgresql://p@h:1/d"


def test_a_private_file_replaces_one_that_was_open_to_all(tmp_path: Path) -> None:
    """Rights are those of the new file, never of the old one."""
    file = tmp_path / "keys.json"
    file.touch(mode=0o644)
    write_private(file, {"key": "值"})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text()) == {"key": "值"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data/a", "/data/a"),
        ("/数据", "/\\u6570\\u636e"),
        ("/a b\\c", "/a\\u0020b\\u005cc"),
        ("/𠮷", "/\\ud842\\udfb7"),
    ],
)
def test_paths_are_escaped_for_java(text: str, expected: str) -> None:
    """A properties file is Latin-1: everything else is a UTF-16 escape."""
    assert escaped(text) == expected


def test_kafka_runs_a_folder_by_the_version_that_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier one can't read it; a folder that does not say is of the first."""
    monkeypatch.setattr(kafka, "jars", lambda version: [version])

    def formatted(_command: object, properties: Path) -> None:
        (properties.parent / "logs").mkdir(parents=True)
        (properties.parent / "logs" / "meta.properties").touch()

    def run_by(folder: str) -> str:
        command = EmbeddedKafka(tmp_path / folder, 1, 2).program(tmp_path / "log").command
        return command[command.index("-cp") + 1]

    monkeypatch.setattr(kafka, "_format", formatted)
    assert run_by("new") == kafka.VERSION
    assert run_by("new") == kafka.VERSION
    (tmp_path / "new" / "version").unlink()
    assert run_by("new") == kafka.FIRST_VERSION == "4.3.1"
    monkeypatch.setattr(kafka, "VERSION", "4.9.9")
    (tmp_path / "new" / "version").write_text("4.0.2")
    assert (run_by("new"), run_by("newer")) == ("4.0.2", "4.9.9")
