"""docs/outbox.md, run as it is written."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from shlex import quote
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from producers.client import Publisher
from schemas.contracts import load_contracts
from schemas.topics import TopicSpec
from services.runtime.embedded.ports import free_port
from services.runtime.kafka.port import Kafka
from services.runtime.settings import RelaySettings, Settings, as_environment, with_environment
from tests.conditions import eventually
from tests.conftest import OwnTopics
from tests.databases import Department
from tests.events import ACCEPTED, SOURCE
from tests.outbox import ids
from tests.pages import PageShell, named

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "outbox.md").read_text(encoding="utf-8")
FIRST, SECOND = "SYN-510000-2025-000001", "SYN-510000-2025-000002"


def blocks(language: str) -> list[str]:
    """Return the page's blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def shell(installation: Settings, tmp_path: Path) -> Iterator[PageShell]:
    """Run the page's commands on this test's topics."""
    found = PageShell("outbox.md", tmp_path, with_environment(as_environment(installation)))
    yield found
    found.end()


@pytest.mark.servers
def test_the_page_as_written_takes_a_department_from_nothing_to_kafka(
    kafka: Kafka,
    own: OwnTopics,
    department: Department,
    shell: PageShell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The printed statements, the plain SQL, the copied helper, then the mending and the cleaning up."""
    department.uninstall()
    printed = shell.run("postgresql" if department.kind == "postgresql" else "mariadb")
    assert printed.returncode == 0, printed.stderr
    department.execute((tmp_path / "outbox.sql").read_text(encoding="utf-8"))
    prepare, write, mend, clean = blocks("sql")
    department.execute(prepare)
    department.execute(write)
    namespace: dict[str, Any] = {}
    load_copied_helper(tmp_path, monkeypatch)
    exec(blocks("python")[0], namespace)
    namespace["accept"](department.connect(), SECOND)
    assert set(department.execute("SELECT state FROM window_case")) == {("accepted",)}
    relay = f"hongyan run relay --port {free_port()}"
    shell.start(
        "relay", {"postgresql://relay:…@db.example/approval": quote(department.url), "hongyan run relay": relay}
    )
    wanted = Counter([f"{FIRST}-accepted", f"{SECOND}-accepted"])
    eventually(lambda: Counter(ids(kafka, own)) == wanted, 60)
    eventually(lambda: set(department.states().values()) == {"sent"}, 60)
    department.execute(f"UPDATE hongyan_outbox SET state = 'rejected', reason = 'x' WHERE id = '{FIRST}-accepted'")
    department.execute(mend)
    eventually(lambda: ids(kafka, own).count(f"{FIRST}-accepted") == 2, 60)
    department.execute(clean)


@pytest.mark.servers
def test_the_bridge_of_the_page_takes_what_debezium_writes_to_the_events(
    kafka: Kafka, own: OwnTopics, installation: Settings
) -> None:
    """A record as the outbox event router makes it of a row: taken twice it is the same event; a bad one is told."""
    topic = own.events("window").replace("events.", "outbox.")
    admin = kafka.admin()
    admin.ensure_topics([TopicSpec(topic, 1)])
    data = json.dumps(load_contracts().types[ACCEPTED].sample).encode()
    headers = [("id", b"x"), ("ce_id", b"bridged"), ("ce_type", ACCEPTED.encode()), ("ce_source", SOURCE.encode())]
    producer = kafka.producer()
    for value in (data, b"{}", data):
        producer.send(topic, key=b"k", value=value, headers=[*headers, ("ce_follows", b"")]).result(10)
    producer.close()
    namespace: dict[str, Any] = {}
    exec(named("outbox.md", "python", "bridge"), namespace)
    refused: list[str] = []
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=installation.kafka.bootstrap_servers,
        group_id=topic,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        consumer_timeout_ms=5000,
    )
    with closing(consumer), Publisher(installation, SOURCE) as publisher:
        namespace["bridge"](consumer, publisher, lambda _record, error: refused.append(str(error)))
        assert consumer.committed(TopicPartition(topic, 0)) == 3
    assert ids(kafka, own) == ["bridged", "bridged"]
    assert len(refused) == 1
    admin.delete_topics([topic])
    admin.close()


def load_copied_helper(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy the helper under the name that the page gives it, and make it importable."""
    copied = folder / "hongyan_outbox.py"
    shutil.copy(ROOT / "producers" / "outbox" / "helper.py", copied)
    spec = spec_from_file_location("hongyan_outbox", copied)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "hongyan_outbox", module)


def test_the_page_names_every_setting_with_its_default() -> None:
    """And none that there is not."""
    named = set(re.findall(r"HONGYAN_RELAY__([A-Z_]+)", PAGE))
    assert named == {name.upper() for name in RelaySettings.model_fields}
    for name, default in re.findall(r"\| `HONGYAN_RELAY__([A-Z_]+)` \| `?([^`|]+?)`? \|", PAGE):
        assert str(RelaySettings.model_fields[name.lower()].default) in {default, f"{default}.0"}


def test_the_sample_of_the_page_is_the_types_own() -> None:
    """What a department copies is what is accepted."""
    for field in load_contracts().types[ACCEPTED].sample:
        assert PAGE.count(f'"{field}"') == 2
