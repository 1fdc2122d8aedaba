"""The catalogue: a new type is one folder, and its documents say what the schemas say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.contracts import ROOT, SENSITIVITIES, ContractError, load_contracts
from services.catalogue import document
from services.catalogue.entry import entry_of
from services.catalogue.scaffold import scaffold
from services.runtime.errors import InvalidError
from tests.pages import named

PROJECT = Path(__file__).parents[3]
NEW = "cn.gov.sc.forestry.seedling-permit.granted"


def test_the_page_on_adding_a_type_works_as_written(tmp_path: Path) -> None:
    """Its commands run in a copy of the project, and the new type is there, in the code's own list and documents."""
    for folder in ("schemas", "services", "producers", "consumers"):
        shutil.copytree(PROJECT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "hongyan.py", tmp_path)
    for name in ("new", "check"):
        for command in named("extend.md", "sh", name).splitlines():
            arguments = command.removeprefix("hongyan ").split()
            done = subprocess.run(
                [sys.executable, "-m", "hongyan", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert (tmp_path / "docs" / "reference" / f"{NEW}.md").exists()
    assert NEW in load_contracts(tmp_path / "schemas" / "avro").types


@pytest.mark.parametrize(
    "name", ["forestry.granted", "cn.gov.sc.forestry", "cn.gov.sc.Forestry.granted", "cn.gov.sc.a.../../../b"]
)
def test_a_name_that_is_no_type_is_refused_and_nothing_is_made(tmp_path: Path, name: str) -> None:
    """The name says the domain, and becomes a folder: only the one form is taken."""
    with pytest.raises(InvalidError, match="/type"):
        scaffold(name, tmp_path / "avro")
    assert not list(tmp_path.rglob("*"))


def test_a_type_that_exists_is_not_overwritten() -> None:
    """The first folder stands."""
    with pytest.raises(InvalidError, match="exists already"):
        scaffold("cn.gov.sc.health.medical-ad-certificate.issued", ROOT)


def test_documents_that_are_missing_changed_or_left_over_are_stale(tmp_path: Path) -> None:
    """What is written is in order; each kind of difference is named."""
    contracts = load_contracts()
    assert document.write(contracts, tmp_path) == len(contracts.types) + 1
    assert document.stale(contracts, tmp_path) == []
    (tmp_path / "README.md").unlink()
    (tmp_path / f"{NEW}.md").write_text("left over", encoding="utf-8")
    changed = tmp_path / "cn.gov.sc.credit.listed.md"
    changed.write_text(changed.read_text(encoding="utf-8").replace("personal", "public"), encoding="utf-8")
    assert document.stale(contracts, tmp_path) == ["README.md", changed.name, f"{NEW}.md"]


@pytest.mark.parametrize("kind", sorted(load_contracts().types))
def test_every_entry_says_all_that_the_law_asks(kind: str) -> None:
    """Owner, legal basis, sharing with its conditions, retention, and the sensitivity of every field."""
    entry = entry_of(load_contracts().types[kind])
    assert entry["owner"]
    assert entry["legal_basis"]
    assert entry["retention_days"] >= 3 * 365
    assert entry["sharing"] != "conditional" or entry["conditions"]
    assert entry["natural_subscribers"]
    assert {field["sensitivity"] for field in entry["fields"]} <= set(SENSITIVITIES)
    assert [name for name in entry["sample"] if name not in {f["name"] for f in entry["fields"]}] == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda entry: entry.update(conditions=[]), "names its conditions"),
        (lambda entry: entry.update(sharing="none"), "has no subscribers"),
        (lambda entry: entry.update(retention_days=30), "greater than or equal to 1096"),
        (lambda entry: entry.update(legal_basis=[]), "at least 1 item"),
        (lambda entry: entry.update(named_receivers="nobody"), "nobody is used but is no field"),
        (lambda entry: entry.update(time_field="then"), "then is used but is no field"),
    ],
)
def test_an_entry_that_does_not_hold_together_stops_the_start(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    """Each rule of the catalogue, broken once."""
    folder = tmp_path / "credit" / "listed"
    shutil.copytree(ROOT / "credit" / "listed", folder)
    entry = yaml.safe_load((folder / "catalogue.yaml").read_text(encoding="utf-8"))
    change(entry)
    (folder / "catalogue.yaml").write_text(yaml.safe_dump(entry, allow_unicode=True), encoding="utf-8")
    with pytest.raises(ContractError, match=said):
        load_contracts(tmp_path)


@pytest.mark.parametrize(
    ("file", "sound", "broken", "said"),
    [
        ("catalogue.yaml", "time_field: ", "time_field: no_such_", ("credit/listed", "no_such_")),
        ("sample.json", '"subject_name"', '"surplus"', ("credit.listed: sample.json", "/subject_name", "/surplus")),
        ("schema.avsc", '"cel": "', '"cel": "(', ("credit.listed: schema.avsc", "Failed to parse")),
    ],
)
def test_a_process_does_not_start_on_a_type_that_is_not_in_order(
    tmp_path: Path, file: str, sound: str, broken: str, said: tuple[str, ...]
) -> None:
    """It ends at once with one line that names the type and what is wrong; nothing is connected to before."""
    for folder in ("schemas", "services", "producers", "consumers"):
        shutil.copytree(PROJECT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "hongyan.py", tmp_path)
    path = tmp_path / "schemas" / "avro" / "credit" / "listed" / file
    assert sound in path.read_text(encoding="utf-8")
    path.write_text(path.read_text(encoding="utf-8").replace(sound, broken, 1), "utf-8")
    environment = os.environ | {"HONGYAN_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    command = [sys.executable, "-m", "hongyan", "serve", "gateway", "--port", "0"]
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 1
    assert [part for part in said if part not in ended.stderr] == []
    assert "Traceback" not in ended.stderr


def test_a_nested_field_without_sensitivity_stops_the_start(tmp_path: Path) -> None:
    """The records inside a record are held to the same rules."""
    folder = tmp_path / "inventory" / "decided"
    shutil.copytree(ROOT / "inventory" / "decided", folder)
    schema = json.loads((folder / "schema.avsc").read_text(encoding="utf-8"))
    systems = next(field for field in schema["fields"] if field["name"] == "systems")
    del systems["type"]["items"]["fields"][0]["sensitivity"]
    (folder / "schema.avsc").write_text(json.dumps(schema), encoding="utf-8")
    with pytest.raises(ContractError, match=r"systems\.system_code has no sensitivity"):
        load_contracts(tmp_path)
