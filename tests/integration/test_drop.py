"""The drop folder as a real process: what becomes of each file, whatever is killed in between."""

from __future__ import annotations

import csv
import json
import random
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.contracts import load_contracts
from schemas.labels import label_of
from schemas.topics import EVENT_PARTITIONS, Topics
from services.runtime.kafka.port import Kafka
from services.runtime.settings import DropSettings, Settings
from tests.conditions import eventually
from tests.conftest import OwnTopics
from tests.events import ACCEPTED, SOURCE, attribute, read_all
from tests.processes import Processes, Running

pytestmark = pytest.mark.servers

CONTRACT = load_contracts().types[ACCEPTED]
LABELS = {f["name"]: label_of(f["doc"]) for f in CONTRACT.fields() if f["name"] in CONTRACT.sample}


@pytest.fixture
def dropping(installation: Settings, tmp_path: Path) -> Settings:
    """Settings of a drop folder that is looked at often."""
    installation.drop = DropSettings(folder=tmp_path / "drop", source=SOURCE, settle_s=0.2, poll_s=0.05)
    return installation


class Department:
    """Puts files into the folder, and sees what became of them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, name: str, lines: list[dict[str, str]], encoding: str = "gb18030") -> None:
        """Copy a file into in/ under Chinese headers, as a department would."""
        with (self.root / "in" / name).open("w", encoding=encoding, newline="") as file:
            writer = csv.writer(file)
            writer.writerow([LABELS[column] for column in lines[0]])
            writer.writerows(line.values() for line in lines)

    def files(self) -> dict[str, str]:
        """Return the folder of every file that is not hidden."""
        found = (path for name in ("in", "done", "rejected") for path in (self.root / name).iterdir())
        return {path.name: path.parent.name for path in found if not path.name.startswith(".")}

    def reasons(self, name: str) -> list[list[str]]:
        """Return row, field and problem of each line beside a rejected file."""
        with (self.root / "rejected" / f"{name}.rejects.csv").open(encoding="utf-8-sig", newline="") as file:
            return [line[:3] for line in csv.reader(file)][1:]


@pytest.fixture
def department(dropping: Settings) -> Department:
    """The department whose folder it is."""
    assert dropping.drop.folder is not None
    return Department(dropping.drop.folder)


def cases(numbers: range, **changes: str) -> list[dict[str, str]]:
    """Return rows of cases, with what a spreadsheet shows for a symbol."""
    sample = {name: str(value) for name, value in CONTRACT.sample.items()}
    return [{**sample, "handling": "窗口办理", "project_no": f"SYN-{n:06d}", **changes} for n in numbers]


def keys(kafka: Kafka, topics: Topics) -> Iterator[str]:
    """Give the business key of every record on the topic."""
    for record in read_all(kafka, topics.events("window"), EVENT_PARTITIONS):
        yield (record.key or b"").decode()


def health(process: Running) -> dict[str, Any]:
    """Return what a process says that it does."""
    try:
        with urllib.request.urlopen(f"{process.url}/health", timeout=2) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except OSError:
        return {"state": "away"}


def test_each_file_is_moved_to_where_it_belongs_with_the_reasons_beside_it(
    kafka: Kafka, own: OwnTopics, dropping: Settings, department: Department, processes: Processes
) -> None:
    """All rows taken; some refused; no type in the name; an unknown column. What was refused is mended and put back."""
    processes.start("drop", dropping)
    department.put(f"{ACCEPTED}-good.csv", cases(range(3)))
    department.put(f"{ACCEPTED}-some.csv", [*cases(range(3, 5)), *cases(range(5, 6), division="990000")])
    department.put("办件.csv", cases(range(6, 7)))
    (department.root / "in" / f"{ACCEPTED}-wrong.csv").write_text("办件号码\n1\n", encoding="utf-8")
    rejected = [f"{ACCEPTED}-some.csv", "办件.csv", f"{ACCEPTED}-wrong.csv"]
    wanted = {f"{ACCEPTED}-good.csv": "done"} | dict.fromkeys(rejected, "rejected")
    eventually(lambda: department.files().items() >= wanted.items(), 30, "every file moved")
    assert [reason[:2] for reason in department.reasons(rejected[0])] == [["4", "division"]]
    assert [reason[0] for name in rejected[1:] for reason in department.reasons(name)] == ["0", "0"]
    assert "办件号码" in department.reasons(rejected[2])[0][2]
    assert sorted(keys(kafka, own)) == [f"SYN-{n:06d}" for n in range(5)]

    mended = (department.root / "rejected" / f"{rejected[0]}.rejects.csv").read_text(encoding="utf-8-sig")
    path = department.root / "in" / f"{ACCEPTED}-mended.csv"
    path.write_text(mended.replace("990000", "510000"), encoding="utf-8")
    eventually(lambda: department.files().get(path.name) == "done", 30, "the mended rows taken")
    assert "SYN-000005" in set(keys(kafka, own))


def test_rows_that_stand_on_the_log_with_other_content_are_put_beside_the_rejected_ones(
    dropping: Settings, department: Department, processes: Processes
) -> None:
    """Nobody watches a folder's dead letters: the file goes to rejected/ with those rows, after what else is wrong."""
    processes.start("router", dropping)
    processes.start("drop", dropping)
    first, second = f"{ACCEPTED}-first.csv", f"{ACCEPTED}-second.csv"
    department.put(first, cases(range(3)))
    eventually(lambda: department.files().get(first) == "done", 30, "the first file taken")
    changed = cases(range(1, 2), department_name="合成改名局")
    department.put(second, [*cases(range(1)), *changed, *cases(range(9, 10), division="990000")])
    eventually(lambda: department.files().get(second) == "rejected", 30, "the second file taken")
    assert [reason[:2] for reason in department.reasons(second)] == [["4", "division"], ["3", "id"]]
    assert "先到的有效" in department.reasons(second)[1][2]
    both = [*cases(range(20, 21)), *cases(range(20, 21), department_name="合成改名局")]
    department.put(f"{ACCEPTED}-both.csv", both)
    eventually(lambda: department.files().get(f"{ACCEPTED}-both.csv") == "rejected", 30, "a file at odds with itself")
    assert [reason[:2] for reason in department.reasons(f"{ACCEPTED}-both.csv")] == [["3", "id"]]
    department.put(f"{ACCEPTED}-third.csv", cases(range(3)))
    eventually(lambda: department.files().get(f"{ACCEPTED}-third.csv") == "done", 30, "the same rows again are none")


def test_a_file_that_is_still_written_is_not_taken(
    kafka: Kafka, own: OwnTopics, dropping: Settings, department: Department, processes: Processes
) -> None:
    """Its writer is quiet for much longer than the settling time; others pass it; it is taken once it is closed."""
    processes.start("drop", dropping)
    department.put("half.tmp", cases(range(2)), "utf-8")
    half = (department.root / "in" / "half.tmp").read_text(encoding="utf-8")
    name = f"{ACCEPTED}-slow.csv"
    with (department.root / "in" / name).open("w", encoding="utf-8") as writer:
        writer.write(half[:-20])
        writer.flush()
        for number in range(3):
            other = f"{ACCEPTED}-{number}.csv"
            department.put(other, cases(range(10 + number, 11 + number)))
            eventually(lambda other=other: department.files().get(other) == "done", 30)
        assert department.files()[name] == "in"
        assert not {"SYN-000000", "SYN-000001"} & set(keys(kafka, own))
        writer.write(half[-20:])
    eventually(lambda: department.files().get(name) == "done", 30, "the closed file taken")
    assert {"SYN-000000", "SYN-000001"} <= set(keys(kafka, own))


def test_two_processes_on_one_folder_do_not_double(
    kafka: Kafka, own: OwnTopics, dropping: Settings, department: Department, processes: Processes
) -> None:
    """One works and one stands by; when the first is killed the second takes over."""
    first = processes.start("drop", dropping)
    second = processes.start("drop", dropping, slot="1")
    assert (health(first)["state"], health(second)["state"]) == ("working", "standby")
    for number in range(6):
        department.put(f"{ACCEPTED}-{number}.csv", cases(range(number * 50, number * 50 + 50)))
    eventually(lambda: set(department.files().values()) == {"done"}, 30, "all files done")
    assert Counter(keys(kafka, own)) == Counter(f"SYN-{n:06d}" for n in range(300))
    first.kill()
    department.put(f"{ACCEPTED}-more.csv", cases(range(300, 301)))
    eventually(lambda: department.files()[f"{ACCEPTED}-more.csv"] == "done", 30, "the second took over")
    assert health(second)["state"] == "working"


def test_a_kill_at_any_moment_loses_nothing(
    kafka: Kafka, own: OwnTopics, dropping: Settings, department: Department, processes: Processes
) -> None:
    """Killed again and again over one file with a refused row; at the end each row has one identity and one end."""
    dice = random.Random(20251202)
    name = f"{ACCEPTED}-long.csv"
    process = processes.start("drop", dropping)
    department.put(name, [*cases(range(5000)), *cases(range(5000, 5001), division="990000")])
    for _ in range(4):
        eventually(lambda process=process: "rows" in health(process) or department.files()[name] != "in", 30)
        threading.Event().wait(dice.uniform(0, 0.4))
        process.kill()
        process = processes.start("drop", dropping)
    eventually(lambda: department.files()[name] == "rejected", 60, "the file taken")
    assert [reason[:2] for reason in department.reasons(name)] == [["5002", "division"]]
    found = read_all(kafka, own.events("window"), EVENT_PARTITIONS)
    identities = {(record.key or b"").decode(): attribute(record, "ce_id") for record in found}
    assert identities.keys() == {f"SYN-{n:06d}" for n in range(5000)}
    assert len({attribute(record, "ce_id") for record in found}) == 5000
