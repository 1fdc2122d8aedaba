"""docs/poller.md, run as it is written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

import pytest
from pydantic import SecretStr

from producers.poller.mapping import TableMapping, load_mapping
from schemas.contracts import load_contracts
from services.runtime.embedded.ports import free_port
from services.runtime.kafka.port import Kafka
from services.runtime.settings import PollerSettings, Settings, as_environment, with_environment
from tests.conditions import eventually
from tests.conftest import OwnTopics
from tests.databases import Department
from tests.pages import PageShell, named
from tests.poller import told

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "poller.md").read_text(encoding="utf-8")
FILE = "certificates.yaml"
ADDRESS = "postgresql://reader:…@db.example/approval"


def blocks(language: str) -> list[str]:
    """Return the page's blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def shell(installation: Settings, tmp_path: Path) -> Iterator[PageShell]:
    """Run the page's commands on this test's topics."""
    installation.poller = PollerSettings()
    found = PageShell("poller.md", tmp_path, with_environment(as_environment(installation)))
    yield found
    found.end()


@pytest.mark.servers
def test_the_page_as_written_takes_a_table_from_a_mapping_to_kafka(
    kafka: Kafka,
    own: OwnTopics,
    shell: PageShell,
    department: Department,
    tmp_path: Path,
) -> None:
    """The table, the mapping, the dry run, the run, the row that is rejected, and its mending."""
    if department.kind == "mariadb":
        department.execute("ALTER DATABASE CHARACTER SET utf8mb4")
    create, mend = blocks("sql")
    department.execute(create)
    (mapping,) = blocks("yaml")
    file = tmp_path / FILE
    file.write_text(mapping + "\nretry_s: 0.2\npoll_s: 0.1\n", encoding="utf-8")

    dry = shell.run("dry-run", {ADDRESS: quote(department.url)})
    assert dry.returncode == 3, dry.stderr
    assert "合成医院三" in dry.stdout
    assert "Z9" in dry.stdout
    assert "其中 1 行会被拒" in dry.stdout
    assert told(kafka, own) == {}

    shell.environment = {**shell.environment, "HONGYAN_POLLER__DSN": department.url}
    command = f"hongyan poller run {FILE}"
    shell.start("run-mapping", {command: f"{command} --port {free_port()}"})
    eventually(lambda: told(kafka, own) == {"1202001": ["issued"], "1202003": ["issued"]}, 30)
    shown = shell.run("rejects")
    assert shown.stdout.count("institution_class") == 2, shown.stderr
    shell.end()
    department.execute(mend)
    shell.start("service", {"hongyan run poller": f"hongyan run poller --port {free_port()}"})
    eventually(lambda: told(kafka, own).get("1202002") == ["issued"], 30)
    eventually(lambda: "0 行被拒" in shell.run("rejects").stdout, 30)


@pytest.fixture
def alone(tmp_path: Path) -> PageShell:
    """Run the page's commands where there is no server at all."""
    return PageShell("poller.md", tmp_path, with_environment({}))


def test_the_file_that_the_first_command_prints_is_a_mapping(alone: PageShell, tmp_path: Path) -> None:
    """It loads as it is, since every required field is there."""
    printed = alone.run("new")
    assert printed.returncode == 0, printed.stderr
    assert load_mapping(tmp_path / FILE, load_contracts()).type in named("poller.md", "sh", "new")


def test_a_wrong_mapping_is_refused_with_every_field_named(alone: PageShell, tmp_path: Path) -> None:
    """Status 1, and a line for each."""
    file = tmp_path / FILE
    (mapping,) = blocks("yaml")
    wrong = mapping.replace("certificate_no: zsbh", "certificate_nr: zsbh").replace("codes: classes}", "codes: kinds}")
    file.write_text(wrong, encoding="utf-8")
    refused = alone.run("dry-run")
    assert refused.returncode == 1
    for field in ("/fields/certificate_no:", "/fields/certificate_nr:", "/fields/institution_class:"):
        assert field in refused.stderr


def test_the_page_names_every_setting_with_its_default() -> None:
    """And none that there is not; what stands in a mapping is named, too."""
    named = set(re.findall(r"HONGYAN_POLLER__([A-Z_]+)", PAGE))
    assert named == {name.upper() for name in PollerSettings.model_fields}
    fields = TableMapping.model_fields
    assert all(f"`{name}" in PAGE or f"\n{name}:" in PAGE for name in fields)
    for name in ("poll_s", "retry_s", "batch"):
        assert re.search(rf"`{name}`（(默认 )?{fields[name].default:g}", PAGE)


@pytest.mark.servers
@pytest.mark.parametrize("department", ["postgresql"], indirect=True)
def test_the_dry_run_can_be_read_by_programs(department: Department, tmp_path: Path) -> None:
    """JSON, one object a row."""
    department.execute(blocks("sql")[0])
    (tmp_path / FILE).write_text(blocks("yaml")[0], encoding="utf-8")
    settings = Settings(poller=PollerSettings(dsn=SecretStr(department.url)))
    command = [sys.executable, "-m", "hongyan", "poller", "run", FILE, "--dry-run", "--json"]
    environment = os.environ | as_environment(settings) | {"PYTHONPATH": str(ROOT)}
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    rows = json.loads(answer.stdout)
    assert [row["key"] for row in rows] == ["1", "2", "3"]
    assert [bool(row["problems"]) for row in rows] == [False, True, False]
    assert rows[0]["data"]["issued_on"] == "2025-12-02"
