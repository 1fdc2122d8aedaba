"""Imports a file of events: each row through the same checks as the gateway, over Kafka, safely again and again.

An event's id is derived from type, source, business key and time, so a second run sends the same identities with the
same content, which the router and the statistics recognise.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

from producers.client import Publisher
from producers.files.reading import Row, read_rows
from producers.publishing import Prepared
from schemas.contracts import EventContract
from services.runtime.errors import FieldProblem, InvalidError
from services.runtime.kafka.port import Sent

CHUNK = 4000
ACKNOWLEDGE_S = 30.0
ENVELOPE_COLUMNS = ("id", "time", "subject", "division", "follows", "traceparent")
LIST_SEPARATOR = ";"


@dataclass(slots=True)
class Tally:
    """What an import came to."""

    rows: int = 0
    accepted: int = 0
    rejected: int = 0
    marked: int = 0


class RowReader:
    """Turns rows into attributes and data by the contract: columns are named as the fields."""

    def __init__(self, contract: EventContract) -> None:
        self._lists = {f["name"] for f in contract.fields() if _is_list(f)}
        self._names = {f["name"] for f in contract.fields()}

    def split(self, columns: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return (attributes, data). An empty cell is a field not given; a list is parted by semicolons."""
        attributes: dict[str, Any] = {}
        data: dict[str, Any] = {}
        for name, text in columns.items():
            value = text.strip()
            if not value or not name:
                continue
            if name in ENVELOPE_COLUMNS and name not in self._names:
                attributes[name] = value
            elif name in self._lists:
                data[name] = [part.strip() for part in value.split(LIST_SEPARATOR) if part.strip()]
            else:
                data[name] = value
        return attributes, data


def _is_list(field: Mapping[str, Any]) -> bool:
    kind = field["type"]
    return isinstance(kind, dict) and kind.get("type") == "array"


def derived_id(event_type: str, source: str, subject: str, time: str) -> str:
    """Return the id of a row's event: the same for the same row, in every run."""
    return blake2b("\n".join((event_type, source, subject, time)).encode(), digest_size=16).hexdigest()


class Importer:
    """Imports files of one event type."""

    def __init__(self, publisher: Publisher, contract: EventContract) -> None:
        self._publisher = publisher
        self._contract = contract
        self._reader = RowReader(contract)

    def run(self, path: Path, rejects: Path, on_progress: Callable[[Tally], None]) -> Tally:
        """Import a file; raises InvalidError when it can't be read, UnavailableError when Kafka is away.

        Everything before an error is on the log, and the whole file may simply be run again.
        """
        tally = Tally()
        waiting: list[Sent] = []
        with Rejects(rejects) as rejected:
            for chunk in _chunks(read_rows(path)):
                sent = [one for row in chunk if (one := self._send(row, tally, rejected)) is not None]
                # One chunk is prepared while the one before it is acknowledged: at most two are ever in memory.
                _await(waiting)
                waiting = sent
                on_progress(tally)
            _await(waiting)
        return tally

    def _send(self, row: Row, tally: Tally, rejected: Rejects) -> Sent | None:
        number, columns = row
        tally.rows += 1
        try:
            prepared = self.prepare(columns)
        except InvalidError as error:
            tally.rejected += 1
            rejected.write(number, columns, error.problems)
            return None
        tally.accepted += 1
        tally.marked += bool(prepared.quality)
        return self._publisher.send(prepared)

    def prepare(self, columns: Mapping[str, str]) -> Prepared:
        """Return a row's event; raises InvalidError."""
        attributes, data = self._reader.split(columns)
        time = attributes.get("time") or data.get(self._contract.catalogue.time_field, "")
        key = "/".join(str(data.get(name, "")) for name in self._contract.catalogue.business_key)
        attributes.setdefault("id", derived_id(self._contract.type, self._publisher.source, key, str(time)))
        return self._publisher.prepare(self._contract.type, data, **attributes)


def _await(sent: Sequence[Sent]) -> None:
    """Wait for the acknowledgements; raises UnavailableError."""
    for one in sent:
        one.result(ACKNOWLEDGE_S)


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) >= CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


class Rejects:
    """The rejects file: what is wrong, row by row and field by field, with the row itself. Made only when needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self._columns: list[str] = []

    def __enter__(self) -> Rejects:
        self._path.unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, number: int, columns: Mapping[str, str], problems: Sequence[FieldProblem]) -> None:
        """Write one line for each thing that is wrong with a row."""
        if self._file is None:
            self._file = self._path.open("w", encoding="utf-8-sig", newline="")
            self._columns = list(columns)
            csv.writer(self._file).writerow(["行 (row)", "字段 (field)", "问题 (problem)", *self._columns])
        writer = csv.writer(self._file)
        for problem in problems:
            field = problem.pointer.removeprefix("/data").removeprefix("/")
            writer.writerow([number, field, problem.detail, *(columns.get(c, "") for c in self._columns)])
