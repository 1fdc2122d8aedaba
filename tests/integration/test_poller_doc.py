"""docs/poller.md, run as it is written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from producers.poller.mapping import TableMapping, load_mapping
from schemas.contracts import load_contracts
from services.runtime.kafka.port import Kafka
from services.runtime.settings import PollerSettings, Settings, as_environment
from tests.conditions import eventually
from tests.conftest import OwnTopics
from tests.databases import Department
from tests.poller import told
from tests.processes import Processes

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "poller.md").read_text(encoding="utf-8")
FILE = "certificates.yaml"


def blocks(language: str) -> list[str]:
    """Return the page's blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def run(command: str, folder: Path, settings: Settings) -> subprocess.CompletedProcess[str]:
    """Run a command that stands on the page."""
    assert command in "\n".join(blocks("sh"))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HONGYAN_")} | {"COLUMNS": "240"}
    return subprocess.run(
        [sys.executable, "-m", *command.split()],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment | as_environment(settings) | {"PYTHONPATH": str(ROOT)},
    )


@pytest.mark.servers
def test_the_page_as_written_takes_a_table_from_a_mapping_to_kafka(
    kafka: Kafka,
    own: OwnTopics,
    installation: Settings,
    department: Department,
    processes: Processes,
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
    installation.poller = PollerSettings(dsn=SecretStr(department.url))

    dry = run(f"hongyan poller run {FILE} --dry-run --rows 5", tmp_path, installation)
    assert dry.returncode == 3, dry.stderr
    assert "合成医院三" in dry.stdout
    assert "Z9" in dry.stdout
    assert "其中 1 行会被拒" in dry.stdout
    assert told(kafka, own) == {}

    installation.poller.mapping = file
    processes.start("poller", installation)
    eventually(lambda: told(kafka, own) == {"1202001": ["issued"], "1202003": ["issued"]}, 30)
    shown = run(f"hongyan poller rejects {FILE} --key 2", tmp_path, installation)
    assert "institution_class" in shown.stdout, shown.stderr
    department.execute(mend)
    eventually(lambda: told(kafka, own).get("1202002") == ["issued"], 30)
    eventually(lambda: "0 行被拒" in run(f"hongyan poller rejects {FILE}", tmp_path, installation).stdout, 30)


def test_the_file_that_the_first_command_prints_is_a_mapping(tmp_path: Path) -> None:
    """It loads as it is, since every required field is there."""
    first = blocks("sh")[0].split(">", maxsplit=1)[0].strip()
    printed = run(first, tmp_path, Settings())
    file = tmp_path / FILE
    file.write_text(printed.stdout, encoding="utf-8")
    assert load_mapping(file, load_contracts()).type == first.split()[-1]


def test_a_wrong_mapping_is_refused_with_every_field_named(tmp_path: Path) -> None:
    """Status 1, and a line for each."""
    file = tmp_path / FILE
    (mapping,) = blocks("yaml")
    wrong = mapping.replace("certificate_no: zsbh", "certificate_nr: zsbh").replace("codes: classes}", "codes: kinds}")
    file.write_text(wrong, encoding="utf-8")
    refused = run(f"hongyan poller run {FILE} --dry-run --rows 5", tmp_path, Settings())
    assert refused.returncode == 1
    for named in ("/fields/certificate_no:", "/fields/certificate_nr:", "/fields/institution_class:"):
        assert named in refused.stderr


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
