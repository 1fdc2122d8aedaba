"""Importing files: every encoding, what is wrong by row and field, and safely again."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
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
from tests.events import ACCEPTED, attribute, read_all

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


def test_rejected_rows_are_written_with_row_field_and_reason(
    kafka: Kafka, topics: Topics, imported: Import, tmp_path: Path
) -> None:
    """The good rows go in; each thing that is wrong is one line, with the row itself beside it."""
    lines = rows(4)
    lines[1] |= {"division": "990000", "handling": "by-post"}
    lines[3] |= {"occurred_at": "昨天"}
    tally = imported(written(tmp_path / "a.csv", lines, "utf-8"))
    assert (tally.rows, tally.accepted, tally.rejected) == (4, 2, 2)
    with (tmp_path / "rejects.csv").open(encoding="utf-8-sig", newline="") as file:
        found = list(csv.reader(file))
    assert [(line[0], line[1]) for line in found[1:]] == [("3", "handling"), ("3", "division"), ("5", "occurred_at")]
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


@pytest.mark.parametrize("content", [b"", b"a,a\n1,2\n", b"\x00\xff\xfe,\x81\n"])
def test_a_file_that_cannot_be_read_is_said_to_be_one(content: bytes, imported: Import, tmp_path: Path) -> None:
    """An empty file, doubled columns, no text at all."""
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(InvalidError, match=r"bad\.csv"):
        imported(path)
