"""A statistics store of a test's own, filled with facts made through the product's shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from uuid import UUID

import psycopg

from schemas.contracts import load_contracts
from schemas.envelope import identity
from services.statistics.facts import Deletion, Fact, FactMaker, Origin, case_of
from services.statistics.loading import Metrics, load_metrics
from services.statistics.reading import FigureReader, figures
from services.statistics.settling import settled
from services.statistics.shapes import shapes
from services.statistics.store import FactStore, Stored, in_schema

CHINA = timezone(timedelta(hours=8))
SOURCE = "urn:sc:test"
SUBJECT = "one business key"
"""All of them bear it, so that any may follow any."""
TOPIC = "events.window.v1"
CONSUMER = "statistics"
ACCEPTED, COMPLETED, WITHDRAWN = (f"cn.gov.sc.window.case.{name}" for name in ("accepted", "completed", "withdrawn"))
CONSULTED = "cn.gov.sc.window.consultation.recorded"
SHAPES = shapes(load_contracts())
METRICS = load_metrics(SHAPES)
_WINDOW = {
    "department_code": "D1",
    "department_name": "一厅",
    "handling": "online",
    "intake": "online",
    "level": "province",
    "division": "510000",
    "result": "granted",
}


class Day:
    """A clock that stands on a day of 2026, at nine in China."""

    def __init__(self, month: int = 1, day: int = 12) -> None:
        self._now = datetime(2026, month, day, 9, tzinfo=CHINA)

    def now(self) -> datetime:
        """Return its time."""
        return self._now

    def monotonic(self) -> float:
        """Return a time that goes on."""
        return 0.0


def at(text: str) -> datetime:
    """Return a Chinese time."""
    return datetime.fromisoformat(text).replace(tzinfo=CHINA)


@dataclass
class OwnStore:
    """One store; facts get the next offsets of one partition."""

    dsn: str
    offset: int = 0
    store: FactStore = field(init=False)
    makers: dict[str, FactMaker] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = FactStore(self.dsn, CONSUMER)
        self.store.begin((TOPIC, 0), 0)

    def fact(
        self,
        event_id: str,
        when: str,
        kind: str = COMPLETED,
        case: str | None = None,
        follows: str | None = None,
        recorded: str | None = None,
        **changes: object,
    ) -> Fact:
        """Return a fact; its offset is given when it is put."""
        maker = self.makers.setdefault(kind, FactMaker(SHAPES[kind]))
        data = {**_WINDOW, SHAPES[kind].time_field: at(when), **changes}
        origin = Origin(SOURCE, event_id, SUBJECT, follows, at(recorded or when))
        content = case_of(event_id, repr(sorted(data.items(), key=str)))
        return maker.fact(origin, case or event_id, data, content, (TOPIC, 0, 0))

    def put(self, *rows: Fact | Deletion) -> Stored:
        """Store rows as one batch."""
        placed = [replace(row, place=(TOPIC, 0, self.offset + n)) for n, row in enumerate(rows)]
        moves = {(TOPIC, 0): (self.offset, self.offset + len(rows))}
        stored = self.store.store(placed, moves)
        self.offset += len(rows)
        return stored

    def settle(self) -> None:
        """Settle what is stored."""
        with settled(self.dsn):
            pass

    def cells(self) -> list[tuple[object, ...]]:
        """Return the settled cells: month, level and kind, events, cases and both digests."""
        self.settle()
        with psycopg.connect(in_schema(self.dsn)) as connection:
            return connection.execute("SELECT * FROM month_cell ORDER BY month, cell").fetchall()

    @contextmanager
    def reading(self, metrics: Metrics = METRICS) -> Iterator[FigureReader]:
        """Give a reader of the figures."""
        with figures(self.dsn, CONSUMER, metrics, SHAPES) as reader:
            yield reader

    def exact(self, metric: str, month: str, *, now: bool = False, **where: str) -> object:
        """Return one figure's exact value."""
        with self.reading() as reader:
            return reader.figure(metric, month, where, now=now).exact

    def empty(self) -> None:
        """Take everything away again."""
        tables = ("consumer_offset", "identity", "cell", "fact", "correction", "batch", "standing", "month_cell")
        with psycopg.connect(in_schema(self.dsn)) as connection:
            connection.execute(f"TRUNCATE {', '.join(tables)}")
        self.offset = 0
        self.store.begin((TOPIC, 0), 0)
        self.store.positions()


def identified(event_id: str) -> UUID:
    """Return the identity of one of these events."""
    return UUID(bytes=identity(SOURCE, event_id, SUBJECT))


def deletion(event_id: str, target: str, recorded: str) -> Deletion:
    """Return a tombstone."""
    return Deletion(identified(event_id), identified(target), at(recorded), (TOPIC, 0, 0))


def ids(rows: Sequence[Fact]) -> list[str]:
    """Return event ids."""
    return [row.event_id for row in rows]
