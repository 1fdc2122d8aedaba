"""Importing files: every encoding, what is wrong by row and field, and safely again."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import Result
from openpyxl import Workbook
from typer.testing import CliRunner

from hongyan import app
from producers.client import Publisher
from producers.files.importing import Importer, Tally
from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.runtime.errors import InvalidError
from services.runtime.kafka.port import Kafka
from services.runtime.settings import Settings, as_environment
from tests.conditions import eventually
from tests.conftest import OwnTopics
from tests.events import ACCEPTED, ISSUED, attribute, read_all
from tests.processes import Processes

pytestmark = pytest.mark.servers

SAMPLE = load_contracts().types[ACCEPTED].sample
Import = Callable[[Path], Tally]


@pytest.fixture
def imported(installation: Settings, tmp_path: Path) -> Import:
    """Import a file of accepted cases."""

    def run(path: Path) -> Tally:
        with Publisher(installation, "urn:test:import", bulk=True) as publisher:
            importer = Importer(publisher, load_contracts().types[ACCEPTED])
            return importer.run(path, tmp_path / "rejects.csv", lambda _: None)

    return run


def rows(count: int) -> list[dict[str, str]]:
    """Return rows of cases as a department would write them."""
    return [{k: str(v) for k, v in SAMPLE.items()} | {"project_no": f"SYN-{n}"} for n in range(count)]


def written(path: Path, lines: list[dict[str, str]], encoding: str) -> Path:
    """Write rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]))
    writer.writeheader()
    writer.writerows(lines)
    path.write_bytes(text.getvalue().encode(encoding))
    return path


def ids(kafka: Kafka, topics: Topics) -> Counter[str]:
    """Return how often each event id stands on the topic."""
    return Counter(attribute(record, "ce_id") for record in read_all(kafka, topics.events("window"), 12))


def test_csv_in_both_encodings_and_xlsx_give_the_same_events(
    kafka: Kafka, topics: Topics, imported: Import, tmp_path: Path
) -> None:
    """The same rows from three kinds of file are the same identities: a second run adds nothing new."""
    lines = rows(20)
    assert imported(written(tmp_path / "a.csv", lines, "utf-8-sig")).accepted == 20
    first = ids(kafka, topics)
    assert imported(written(tmp_path / "b.csv", lines, "gb18030")).accepted == 20
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(list(lines[0]))
    for line in lines:
        sheet.append(list(line.values()))
    book.save(tmp_path / "c.xlsx")
    assert imported(tmp_path / "c.xlsx").accepted == 20
    assert len(first) == 20
    assert ids(kafka, topics) == Counter(dict.fromkeys(first, 3))


def test_the_same_row_spelt_in_another_way_is_the_same_event(
    kafka: Kafka, own: OwnTopics, installation: Settings, tmp_path: Path
) -> None:
    """Another system's export: small letters in a code, another form of a number, a time without its seconds."""
    row = {k: str(v) for k, v in load_contracts().types[ISSUED].sample.items() if not isinstance(v, list)}
    row |= {"media_types": "网络", "time": "2025-12-02T09:30:00+08:00"}
    row["departments"] = "内科"
    number = row["certificate_no"]
    other = row | {"reviewer_code": row["reviewer_code"].lower(), "time": "2025/12/2 9:30"}
    other["certificate_no"] = number.replace("〔", "[").replace("〕", "]")
    with Publisher(installation, "urn:test:import") as publisher:
        importer = Importer(publisher, load_contracts().types[ISSUED])
        for one in (row, other):
            tally = importer.run(written(tmp_path / "a.csv", [one], "utf-8"), tmp_path / "rejects.csv", lambda _: None)
            assert (tally.accepted, tally.rejected) == (1, 0)
    (found,) = Counter(attribute(r, "ce_id") for r in read_all(kafka, own.events("health"), 12)).values()
    assert found == 2


def test_rejected_rows_are_written_with_row_field_and_reason(
    kafka: Kafka, topics: Topics, imported: Import, tmp_path: Path
) -> None:
    """The good rows go in; each bad one is one line with all that is wrong, the row itself beside it."""
    lines = rows(4)
    lines[1] |= {"division": "990000", "handling": "by-post"}
    lines[3] |= {"occurred_at": "昨天"}
    tally = imported(written(tmp_path / "a.csv", lines, "utf-8"))
    assert (tally.rows, tally.accepted, tally.rejected) == (4, 2, 2)
    with (tmp_path / "rejects.csv").open(encoding="utf-8-sig", newline="") as file:
        found = list(csv.reader(file))
    assert [(line[0], line[1]) for line in found[1:]] == [("3", "handling；division"), ("5", "occurred_at")]
    assert found[1][3:] == list(lines[1].values())
    assert sum(ids(kafka, topics).values()) == 2


def test_one_command_takes_files_named_by_their_types(
    kafka: Kafka, topics: Topics, installation: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is named after its type needs no --type; one that is not is refused before anything is sent."""
    for name, value in as_environment(installation).items():
        monkeypatch.setenv(name, value)
    files = [written(tmp_path / f"{ACCEPTED}-{n}.csv", rows(3 * n)[3 * n - 3 :], "utf-8") for n in (1, 2)]
    stray = written(tmp_path / "stray.csv", rows(1), "utf-8")
    refused = CliRunner().invoke(app, ["import", *map(str, files), str(stray)])
    assert refused.exit_code == 2
    assert "stray.csv" in refused.output
    done = CliRunner().invoke(app, ["import", *map(str, files), "--json"])
    assert done.exit_code == 0, done.output
    assert [orjson.loads(line)["accepted"] for line in done.stdout.splitlines()] == [3, 3]
    assert len(ids(kafka, topics)) == 6


@pytest.fixture
def command(installation: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run ``hongyan import`` on this test's topics."""
    for name, value in as_environment(installation).items():
        monkeypatch.setenv(name, value)
    return lambda *words: CliRunner().invoke(app, ["import", *map(str, words)])


def test_a_row_that_stands_on_the_log_with_other_content_is_told(
    command: Callable[..., Result], processes: Processes, installation: Settings, tmp_path: Path
) -> None:
    """The same key and time with another name: the first stands, and who imports is told which file has how many."""
    processes.start("router", installation)
    first = written(tmp_path / "first.csv", rows(5), "utf-8")
    changed = [row | {"department_name": "合成改名局"} if n < 2 else row for n, row in enumerate(rows(5))]
    second = written(tmp_path / "second.csv", changed, "utf-8")
    done = eventually(lambda: (found := told(command(first, "--type", ACCEPTED, "--json")))["conflicts"] == 0 and found)
    assert done["accepted"] == 5
    again = command(second, first, "--type", ACCEPTED, "--json")
    assert again.exit_code == 3
    assert [orjson.loads(line)["conflicts"] for line in again.stdout.splitlines()] == [2, 0]
    assert "second.csv: 冲突 2" in again.stderr
    alone = command(first, "--type", ACCEPTED)
    assert (alone.exit_code, "冲突" in alone.output) == (0, False)


def told(done: Result) -> dict[str, Any]:
    """Return what the command said of its one file."""
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = orjson.loads(done.stdout)
    return found


def test_the_file_itself_is_never_its_rejects_file(command: Callable[..., Result], tmp_path: Path) -> None:
    """Under any name, and no other file of the same command either; every file is still as it was."""
    file = written(tmp_path / "a.csv", rows(1), "utf-8")
    other = written(tmp_path / "a.csv.rejects.csv", rows(2), "utf-8")
    (tmp_path / "link.csv").symlink_to(file)
    before = file.read_bytes(), other.read_bytes()
    for words in ((file, "--rejects", file), (file, "--rejects", tmp_path / "link.csv"), (file, other)):
        refused = command(*words, "--type", ACCEPTED)
        assert refused.exit_code == 2
        assert "拒收文件" in refused.output
    assert (file.read_bytes(), other.read_bytes()) == before


def test_rejects_take_the_place_of_earlier_ones_when_they_are_whole(
    kafka: Kafka, own: OwnTopics, command: Callable[..., Result], tmp_path: Path
) -> None:
    """A mended file leaves none; a file that breaks off says so in words that fit, and as row 0."""
    kept = tmp_path / "a.csv.rejects.csv"
    file = written(tmp_path / "a.csv", [row | {"handling": "?"} for row in rows(1)], "utf-8")
    assert command(file, "--type", ACCEPTED).exit_code == 3
    assert "handling" in kept.read_text("utf-8-sig")
    written(file, rows(1), "utf-8")
    assert command(file, "--type", ACCEPTED).exit_code == 0
    assert not kept.exists()
    written(file, rows(7), "utf-8")
    file.write_text(file.read_text("utf-8") + '"never closed\n', "utf-8")
    broken = command(file, "--type", ACCEPTED)
    assert broken.exit_code == 1
    assert "从第 9 行起" in broken.stderr
    assert len(ids(kafka, own)) == 7  # what stood before it is on the log, as the page says
    assert "先改好文件" in broken.stderr
    assert "simply run it again" not in broken.stderr
    assert kept.read_text("utf-8-sig").splitlines()[1].startswith("0,file,")
    assert not kept.with_name(kept.name + ".new").exists()


@pytest.mark.parametrize("content", [b"", b"a,a\n1,2\n", b"\x00\xff\xfe,\x81\n"])
def test_a_file_that_cannot_be_read_is_said_to_be_one(content: bytes, imported: Import, tmp_path: Path) -> None:
    """An empty file, doubled columns, no text at all."""
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(InvalidError, match=r"bad\.csv"):
        imported(path)
