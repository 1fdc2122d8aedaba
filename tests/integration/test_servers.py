"""The embedded servers and the start of an installation, with processes of no use in the place of ours."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from services.runtime.embedded.ports import Ports
from services.runtime.embedded.postgres import EmbeddedPostgres
from services.runtime.embedded.servers import Servers, start_servers
from services.runtime.errors import ConflictError, HongyanError
from services.runtime.settings import STACK_FILE, KafkaSettings, Settings
from services.runtime.stack import Process, start_stack
from services.runtime.supervisor import Supervisor
from tests.conditions import eventually
from tests.conftest import OwnTopics, open_folder

pytestmark = pytest.mark.servers
FAKE = "tests.fakes.process"


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """Give a folder that nobody but us may enter, as a home folder is."""
    folder = Path(tempfile.mkdtemp(prefix="hongyan-closed-"))
    folder.chmod(0o700)
    yield folder
    shutil.rmtree(folder)


def answer(dsn: str, question: str = "SELECT 1") -> object:
    """Ask PostgreSQL something."""
    with psycopg.connect(dsn) as connection:
        found = connection.execute(question).fetchone()
        return found and found[0]


def test_postgres_starts_where_others_may_not_enter(closed_folder: Path) -> None:
    """Also as root, for whom it must run as somebody else: its data survive, and no folder of ours is opened up."""
    settings = Settings()
    settings.kafka.bootstrap_servers = "unused:1"
    settings.database.dsn = None
    for expected in (None, 42):
        with Supervisor() as supervisor:
            dsn = start_servers(closed_folder, supervisor, settings, durable=False).dsn
            if expected is None:
                with psycopg.connect(dsn, autocommit=True) as connection:
                    connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
            assert answer(dsn, "SELECT n FROM kept") == 42
    assert stat.S_IMODE(closed_folder.stat().st_mode) == 0o700
    data = EmbeddedPostgres(closed_folder / "postgres", 1).data
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    if not data.is_relative_to(closed_folder):
        shutil.rmtree(data)


def test_postgres_wants_its_password(servers: Servers) -> None:
    """Nobody else on the machine gets in, loopback or not."""
    if os.environ.get("HONGYAN_DATABASE__DSN"):
        pytest.skip("this run uses a database that is not ours")
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(servers.dsn.replace("postgres:", "postgres:not-"), connect_timeout=2)


def test_start_is_given_up_when_asked_to_stop() -> None:
    """A stop during the start ends it at once, and what had started already is stopped."""
    settings = Settings()
    settings.kafka.bootstrap_servers = settings.database.dsn = None
    stop = threading.Event()
    stop.set()
    with open_folder() as data, Supervisor() as supervisor, pytest.raises(HongyanError, match="stopped"):
        start_servers(data, supervisor, settings, durable=False, stop=stop)


@pytest.fixture
def own(settings: Settings) -> Settings:
    """Return settings of an installation that uses the run's servers and starts none."""
    return settings


def test_a_stack_answers_and_tells_where_it_is(own: Settings) -> None:
    """Every process answers when the start returns; the file for other commands is there, and gone afterwards."""
    with start_stack(own, [Process("gateway", "serve", FAKE), Process("router", "run", FAKE)]) as stack:
        assert set(stack.pids) == {"gateway", "router"}
        assert (own.data_dir / STACK_FILE).exists()
        assert stack.settings.gateway.url == stack.addresses["gateway"]
        assert stack.settings.security.admin_key is not None
    assert not (own.data_dir / STACK_FILE).exists()


def test_a_given_key_is_not_written_down(own: Settings) -> None:
    """A key that comes from the settings stays where its owner keeps it."""
    own.security.admin_key = SecretStr("from-elsewhere")
    with start_stack(own, [Process("router", "run", FAKE)]) as stack:
        assert "from-elsewhere" not in stack.keys.read_text()
        assert stack.settings.security.admin_key == SecretStr("from-elsewhere")


def test_ports_count_on_from_the_first(own: Settings, tmp_path: Path) -> None:
    """The gateway's port is the one asked for, the next process has the next."""
    first = Ports(tmp_path / "probe").take("x")
    with start_stack(own, [Process("gateway", "serve", FAKE), Process("router", "run", FAKE)], first) as stack:
        assert stack.addresses["gateway"].endswith(f":{first}")
        assert stack.addresses["router"].endswith(f":{first + 1}")


def test_a_second_stack_in_the_same_folder_is_refused(own: Settings) -> None:
    """Two would share one log and one state."""
    processes = [Process("router", "run", FAKE)]
    with start_stack(own, processes), pytest.raises(ConflictError, match="another"), start_stack(own, processes):
        pytest.fail("two run in one folder")


def test_a_process_that_keeps_ending_is_named_with_the_end_of_its_log(own: Settings) -> None:
    """The start is given up soon, and says whose log to read."""
    with (
        pytest.raises(HongyanError, match=r"(?s)broken.*this one is broken"),
        start_stack(own, [Process("router", "run", FAKE), Process("broken", "run", FAKE)]),
    ):
        pytest.fail("it started")


def test_a_killed_process_is_started_again_and_noted(own: Settings) -> None:
    """The published process id is the one that runs now."""
    with start_stack(own, [Process("router", "run", FAKE)]) as stack:
        first = stack.pids["router"]
        os.kill(first, 9)
        eventually(lambda: stack.pids["router"] != first)


def test_each_test_has_topics_and_a_database_of_its_own(
    topics: OwnTopics, kafka_address: str, database_dsn: str, settings: Settings
) -> None:
    """The fixtures keep their word: migrated and empty, named by nobody else."""
    topics.ensure_base("health")
    assert settings.kafka == KafkaSettings(bootstrap_servers=kafka_address, topic_prefix=topics.prefix)
    assert answer(database_dsn, "SELECT count(*) FROM department") == 0


def test_fetching_again_is_quick_and_needs_no_network() -> None:
    """Once the jars are there, the list of them is all that is read."""
    code = "from services.runtime.embedded.kafka import jars; jars(); import sys; sys.exit('jgo' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
