"""Imports a file of events: each row through the same checks as the gateway, over Kafka, safely again and again.

An event's id is derived from type, source, business key and time as they are after validation, so a second run sends
the same identities with the same content, which the router and the statistics recognise, however a row spells them.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

from producers.client import Publisher
from producers.files.columns import REASON_COLUMNS, Columns
from producers.files.reading import Row, read_rows
from producers.publishing import Prepared
from schemas.contracts import EventContract
from services.runtime.errors import FieldProblem, InvalidError
from services.runtime.kafka.port import Partition, Sent

CHUNK = 4000
ACKNOWLEDGE_S = 30.0
CONFLICT = (
    "同一业务主键与时间已有另一内容，先到的有效，此行没有生效 (accepted before with other content; the first stands)"
)
Span = tuple[int, int]


@dataclass(slots=True)
class Tally:
    """What an import came to."""

    rows: int = 0
    accepted: int = 0
    rejected: int = 0
    marked: int = 0


def derived_id(event_type: str, source: str, subject: str, happened: datetime) -> str:
    """Return the id of a row's event: the same for the same row, in every run."""
    moment = happened.astimezone(UTC).isoformat()
    return blake2b("\n".join((event_type, source, subject, moment)).encode(), digest_size=16).hexdigest()


def type_in_name(name: str, types: Collection[str]) -> str | None:
    """Return the event type that a file is named after."""
    return next((known for known in sorted(types, key=len, reverse=True) if name.startswith(known)), None)


class Importer:
    """Imports files of one event type."""

    def __init__(self, publisher: Publisher, contract: EventContract) -> None:
        self._publisher = publisher
        self._contract = contract
        self._columns = Columns(contract, ())
        self.placed: dict[Partition, Span] = {}
        """The offsets that the events have, from the first to the last, by partition."""

    def run(self, path: Path, rejects: Path, on_progress: Callable[[Tally], None]) -> Tally:
        """Import a file; raises InvalidError when it can't be read, UnavailableError when Kafka is away.

        Everything before an error is on the log, and the whole file may simply be run again. A file that can't be
        read, or breaks off, has that as row 0 among its rejects.
        """
        tally = Tally()
        under_way: list[Sent] = []
        with Rejects(rejects) as rejected:
            try:
                for chunk in _chunks(self._rows(path, rejected)):
                    sent = [one for row in chunk if (one := self._send(row, tally, rejected)) is not None]
                    # One chunk is prepared while the one before it is acknowledged: at most two are ever in memory.
                    self._await(under_way)
                    under_way = sent
                    on_progress(tally)
            except InvalidError as error:
                rejected.write(0, (), error.problems)
                raise
            finally:
                self._await(under_way)
        return tally

    def reject_conflicts(self, path: Path, rejects: Path, conflicting: Callable[[Prepared], bool]) -> None:
        """Read the file again and add the rows whose event the router set aside to those rejected before."""
        with Rejects(rejects, anew=False) as rejected, suppress(InvalidError):  # a file that breaks off has been told
            for number, values in self._rows(path, rejected):
                prepared = self._prepared(values)
                if prepared is not None and conflicting(prepared):
                    rejected.write(number, values, [FieldProblem("/id", CONFLICT)])

    def _prepared(self, values: Sequence[str]) -> Prepared | None:
        try:
            return self.prepare(*self._columns.split(values))
        except InvalidError:
            return None  # it was rejected before

    def _await(self, sent: Sequence[Sent]) -> None:
        """Wait for the acknowledgements; raises UnavailableError."""
        for one in sent:
            placed = one.result(ACKNOWLEDGE_S)
            partition, offset = Partition(placed.topic, placed.partition), placed.offset
            first, last = self.placed.get(partition, (offset, offset))
            self.placed[partition] = min(first, offset), max(last, offset)

    def _rows(self, path: Path, rejected: Rejects) -> Iterator[Row]:
        rows = read_rows(path)
        rejected.header = next(rows)[1]
        self._columns = Columns(self._contract, rejected.header)
        yield from rows

    def _send(self, row: Row, tally: Tally, rejected: Rejects) -> Sent | None:
        number, values = row
        tally.rows += 1
        try:
            prepared = self.prepare(*self._columns.split(values))
        except InvalidError as error:
            tally.rejected += 1
            rejected.write(number, values, error.problems)
            return None
        tally.accepted += 1
        tally.marked += bool(prepared.quality)
        return self._publisher.send(prepared)

    def prepare(self, attributes: dict[str, Any], data: dict[str, Any]) -> Prepared:
        """Return a row's event; raises InvalidError."""
        return self._publisher.prepare_as(self._identify, self._contract.type, data, attributes)

    def _identify(self, key: str, happened: datetime) -> str:
        return derived_id(self._contract.type, self._publisher.source, key, happened)


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Give the rows by thousands, those before an error as well; raises what they raise."""
    chunk: list[Row] = []
    try:
        for row in rows:
            chunk.append(row)
            if len(chunk) >= CHUNK:
                yield chunk
                chunk = []
    except InvalidError:
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


def draft_of(rejects: Path) -> Path:
    """Return where a rejects file is written before it takes the place of an earlier one."""
    return rejects.with_name(rejects.name + ".new")


class Rejects:
    """The rejects file: what is wrong, row by row, each with the row itself. Made only when needed.

    With ``anew`` false it goes on with what an earlier one has.
    """

    def __init__(self, path: Path, *, anew: bool = True) -> None:
        self._path = path
        self._anew = anew
        self._draft = draft_of(path)
        self.header: Sequence[str] = ()
        self._file: IO[str] | None = None

    def __enter__(self) -> Rejects:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._draft.replace(self._path)
        elif kind is None and self._anew:
            self._path.unlink(missing_ok=True)  # an earlier run's: nothing is rejected any more

    def write(self, number: int, values: Sequence[str], problems: Sequence[FieldProblem]) -> None:
        """Write a row once, with all that is wrong with it: mended, it is imported once."""
        kept = [number for number, name in enumerate(self.header) if name not in REASON_COLUMNS]
        if self._file is None:
            self._file = self._begun([self.header[n] for n in kept])
        writer = csv.writer(self._file)
        row = [values[n] if n < len(values) else "" for n in kept]
        fields = [problem.pointer.removeprefix("/data").removeprefix("/") for problem in problems]
        told = [f"{field}: {problem.detail}" for field, problem in zip(fields, problems, strict=True)]
        what = problems[0].detail if len(problems) == 1 else "；".join(told)
        writer.writerow([number, "；".join(dict.fromkeys(fields)), what, *row])

    def _begun(self, header: Sequence[str]) -> IO[str]:
        if not self._anew and self._path.exists():
            shutil.copyfile(self._path, self._draft)
            return self._draft.open("a", encoding="utf-8", newline="")
        file = self._draft.open("w", encoding="utf-8-sig", newline="")
        csv.writer(file).writerow([*REASON_COLUMNS, *header])
        return file
