"""``hongyan up``: the command itself, with the real servers and all processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from hongyan import PROCESSES
from schemas.topics import TopicSpec
from services.runtime.embedded.servers import Servers
from services.runtime.errors import UnavailableError
from services.runtime.kafka.client import connect
from services.runtime.settings import STACK_FILE, KafkaSettings
from tests.conditions import eventually
from tests.conftest import OwnTopics, open_folder
from tests.portal_site import Visitor

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]
SERVERS = ("kafka", "postgres")
STOP_S = 60.0


@dataclass
class Up:
    """A running ``hongyan up``."""

    process: subprocess.Popen[str]
    shown: dict[str, Any]

    @property
    def stack(self) -> dict[str, Any]:
        """Return what it published for other commands."""
        found: dict[str, Any] = json.loads((Path(self.shown["data"]) / STACK_FILE).read_text())
        return found

    def family(self) -> list[psutil.Process]:
        """Return every process below it."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it and return its status."""
        self.process.send_signal(how)
        self.process.communicate(timeout=STOP_S)
        return self.process.returncode


def environment(data: Path, **more: str) -> dict[str, str]:
    """Return an environment in which nothing of Hongyan is set but this."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("HONGYAN_")}
    return plain | {"HONGYAN_DATA_DIR": str(data)} | more


def call(data: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """Call ``hongyan up``."""
    return subprocess.Popen(
        [sys.executable, "-m", "hongyan", "up", *arguments],
        cwd=ROOT,
        env=environment(data, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def start(data: Path, *arguments: str, **more: str) -> Up:
    """Call ``hongyan up --json`` and wait for its line."""
    process = call(data, "--json", *arguments, **more)
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        pytest.fail(f"it did not start: {process.communicate()[1]}")
    return Up(process, json.loads(line))


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    """Start one for the tests that only look at it."""
    with open_folder() as data:
        found = start(data)
        yield found
        found.end()


def status_of(address: str) -> int:
    """Return the status of a process's health page."""
    with urllib.request.urlopen(f"{address}/health", timeout=5) as found:
        return int(found.status)


def test_every_process_answers_when_up_says_so(up: Up) -> None:
    """The line is printed when all is ready, not before, and names a log file for each part."""
    assert set(up.shown["addresses"]) == {*SERVERS, *PROCESSES}
    assert {status_of(up.shown["addresses"][name]) for name in PROCESSES} == {200}
    assert all(Path(up.shown["logs"][name]).exists() for name in (*SERVERS, *PROCESSES))


def test_the_keys_are_ours_alone(up: Up) -> None:
    """Neither the keys nor the database's password are readable by others, nor printed."""
    keys = Path(up.shown["keys"])
    assert keys.stat().st_mode & 0o077 == 0
    secrets = [*json.loads(keys.read_text()).values(), (Path(up.shown["data"]) / "postgres/password").read_text()]
    assert not [secret for secret in secrets if secret in json.dumps(up.shown)]


def test_it_says_how_to_sign_in_to_the_portal(up: Up) -> None:
    """A new installation's first account gets in by what was printed, to choose a password of its own."""
    visitor = Visitor(up.shown["addresses"]["portal"])
    first = up.shown["first_account"]
    assert visitor.sign_in(first["account"], first["password"]).status == 303
    assert visitor.get("/").location == "/account/password"


def test_a_second_up_in_the_same_folder_is_refused(up: Up) -> None:
    """It says why, and the first one is not disturbed."""
    second = call(Path(up.shown["data"]))
    _, said = second.communicate(timeout=STOP_S)
    assert second.returncode == 1
    assert "another one runs" in said
    assert status_of(up.shown["addresses"]["gateway"]) == 200


@pytest.mark.parametrize("name", ["router", "registry", "postgres"])
def test_what_is_killed_comes_back(up: Up, name: str) -> None:
    """SIGKILL of one process or server: it runs again under another id and the same address."""
    before = up.stack["pids"][name]
    os.kill(before, signal.SIGKILL)
    eventually(lambda: up.stack["pids"][name] != before, 20)
    assert up.stack["addresses"] == up.shown["addresses"]
    if name in PROCESSES:
        eventually(lambda: answers_health(up.shown["addresses"][name]), 30)
    else:
        eventually(lambda: database_answers(up), 30)


def test_a_killed_broker_comes_back_with_its_topics(up: Up) -> None:
    """Kafka's log outlives it."""
    settings = KafkaSettings(bootstrap_servers=up.shown["addresses"]["kafka"])
    admin = connect(settings).admin()
    admin.ensure_topics([TopicSpec("before-the-kill", 1)])
    admin.close()
    before = up.stack["pids"]["kafka"]
    os.kill(before, signal.SIGKILL)
    eventually(lambda: up.stack["pids"]["kafka"] != before, 20)
    assert eventually(lambda: "before-the-kill" in topics_of(settings), 60)
    eventually(lambda: all(answers_health(up.shown["addresses"][name]) for name in PROCESSES), 60)


def topics_of(settings: KafkaSettings) -> set[str]:
    """Return the names of all topics, none while the broker is away."""
    try:
        admin = connect(settings).admin()
    except UnavailableError:
        return set()
    try:
        return admin.list_topics()
    except UnavailableError:
        return set()
    finally:
        admin.close()


def answers_health(address: str) -> bool:
    """Tell whether a process is well."""
    try:
        return status_of(address) == 200
    except OSError:
        return False


def database_answers(up: Up) -> bool:
    """Tell whether the installation's own database answers."""
    try:
        psycopg.connect(up.stack["environment"]["HONGYAN_DATABASE__DSN"], connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def test_data_and_addresses_survive_a_restart_and_nothing_is_left_behind() -> None:
    """SIGTERM ends every process below it; the next start finds the rows, the topics and the keys of the last."""
    with open_folder() as data:
        first = start(data)
        dsn = first.stack["environment"]["HONGYAN_DATABASE__DSN"]
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
        keys = Path(first.shown["keys"]).read_text()
        family = first.family()
        assert first.end() == 0
        assert len(family) > len(PROCESSES)
        assert not [process for process in family if process.is_running()]
        assert not (data / STACK_FILE).exists()
        second = start(data)
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (42,)
        assert second.shown["addresses"] == first.shown["addresses"]
        assert Path(second.shown["keys"]).read_text() == keys
        assert second.end(signal.SIGINT) == 0


def test_a_killed_up_leaves_nothing_and_the_next_one_starts_at_once() -> None:
    """SIGKILL of the supervisor itself: its children end with it, and their ports are theirs again."""
    with open_folder() as data:
        first = start(data)
        family = first.family()
        first.end(signal.SIGKILL)
        second = start(data)
        assert not [process for process in family if process.is_running()]
        assert second.shown["addresses"] == first.shown["addresses"]
        assert second.end() == 0


def test_servers_that_are_given_are_used_instead(
    servers: Servers, topics: OwnTopics, database_dsn: str, registry_url: str, tmp_path: Path
) -> None:
    """With all three given, none is started; the table names theirs, every process, and where the keys are."""
    given = {
        "HONGYAN_KAFKA__BOOTSTRAP_SERVERS": servers.bootstrap_servers,
        "HONGYAN_KAFKA__TOPIC_PREFIX": topics.prefix,
        "HONGYAN_DATABASE__DSN": database_dsn,
        "HONGYAN_REGISTRY__URL": registry_url,
        "COLUMNS": "200",
    }
    process = call(tmp_path, **given)
    assert process.stdout is not None
    lines = []
    while (line := process.stdout.readline()) and "ctrl-C" not in line:
        lines.append(line)
    table = "".join(lines)
    assert f"export HONGYAN_DATA_DIR={tmp_path}\n" in lines
    elsewhere = subprocess.run(
        [sys.executable, "-m", "hongyan", "lag", "--json"],
        cwd=tmp_path.parent,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert elsewhere.returncode == 0, elsewhere.stderr
    commands = [" ".join(child.cmdline()) for child in psutil.Process(process.pid).children(recursive=True)]
    process.terminate()
    assert process.communicate(timeout=STOP_S)[1] is not None
    ours = PROCESSES.keys() - {"registry"}
    assert all(name in table for name in (*ours, servers.bootstrap_servers, "keys.json"))
    assert len(commands) == len(ours)
    theirs = ("kafka.Kafka", "/bin/postgres", "serve registry")
    assert not [command for command in commands if any(part in command for part in theirs)]
    assert not (tmp_path / "kafka").exists()


def test_a_port_that_is_taken_is_named(up: Up, tmp_path: Path) -> None:
    """What was asked for by number is refused by number."""
    taken = up.shown["addresses"]["kafka"].rpartition(":")[2]
    refused = call(tmp_path, "--kafka-port", taken)
    _, said = refused.communicate(timeout=STOP_S)
    assert refused.returncode == 1
    assert taken in said
