"""The months for people: figures with what they are compared with and come from, what was decided, and deciding."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from schemas.codec import Codec
from schemas.contracts import Contracts
from schemas.topics import Topics
from services.quarantine.guarding import closing_of
from services.reporting.bulletin import Compared
from services.reporting.composing import Composer, place
from services.reporting.issuing import Format, compose, written
from services.reporting.naming import names, symbol_names
from services.runtime.database import Connections, dsn_of
from services.runtime.errors import UnavailableError
from services.runtime.kafka.port import Kafka
from services.runtime.settings import Settings
from services.statistics.adjustments import Adjustment, adjustments
from services.statistics.announcing import Announcer
from services.statistics.balance import Balance
from services.statistics.closing import Outcome, Signature
from services.statistics.export import ExportFormat, export
from services.statistics.figure import Figure, Month
from services.statistics.frozen import Decision
from services.statistics.lineage import Explanation, explain
from services.statistics.loading import Metrics
from services.statistics.opening import metrics_of
from services.statistics.reading import FigureReader, figures
from services.statistics.shapes import shapes

BREAKDOWN = 50
"""So many values of a dimension are shown, the largest."""
SERIES = 12
Choice = Literal["close", "provisional", "restate"]


@dataclass(frozen=True, slots=True)
class MonthRow:
    """A month in the list: how it stands, how many events it has, and how many receipts of them at agencies."""

    month: Month
    state: str
    events: int
    deliveries: int
    decision: Decision | None


@dataclass(frozen=True, slots=True)
class Title:
    """What a group of figures is called, in Chinese and in English."""

    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class MonthView:
    """A month's figures by group, the decisions about it, its balances, and what of its log is there no more."""

    month: Month
    state: str
    events: int
    deliveries: int
    decisions: Sequence[Decision]
    groups: Sequence[tuple[Title, Sequence[Compared]]]
    balances: Sequence[tuple[str, Balance]]
    moved_cases: Sequence[str]
    gaps: Sequence[str]


@dataclass(frozen=True, slots=True)
class FigureView:
    """A figure with what it comes from, over the last months, and by the values of one of its dimensions."""

    explanation: Explanation
    series: Sequence[Figure]
    dimensions: Sequence[str]
    by: str | None
    breakdown: Sequence[tuple[str, str, Figure]]


@dataclass(frozen=True, slots=True)
class Decided:
    """What a decision came to; ``untold`` says why its events are not published yet."""

    choice: Choice
    month: str
    outcome: Outcome | None
    untold: str | None


@dataclass(frozen=True, slots=True)
class Issue:
    """An issue of the bulletin in one form, and what its editor should look at."""

    form: Format
    name: str
    content: bytes
    warnings: Sequence[str]


class Months:
    """Reads and decides, for one installation."""

    def __init__(
        self,
        settings: Settings,
        kafka: Kafka,
        topics: Topics,
        contracts: Contracts,
        codec: Codec,
        check: Callable[[], None],
        connections: Connections,
    ) -> None:
        """``check`` raises UnavailableError while PostgreSQL is away; ``connections`` fail when it hangs."""
        self._check = check
        self._connections = connections
        self._settings = settings
        self._kafka = kafka
        self._contracts = contracts
        self._consumer = topics.group("statistics")
        self._shapes = shapes(contracts)
        self._announcer = Announcer(kafka, topics, contracts, codec, dsn_of(settings.database))
        self._symbols = symbol_names(contracts)
        self._loaded: tuple[object, Metrics] | None = None
        self._lock = threading.Lock()

    def all(self) -> list[MonthRow]:
        """Return every month that anything is known of, the newest first."""
        with self._reading() as reader:
            return [
                MonthRow(
                    month,
                    reader.frozen.state(month.number),
                    reader.events(month),
                    reader.deliveries(month),
                    _last(reader, month),
                )
                for month in reader.months()
            ]

    def month(self, text: str) -> MonthView:
        """Return a month; raises InvalidError for what is none."""
        month = Month.parse(text)
        with self._reading() as reader:
            titles = {group.title_zh: Title(group.title_zh, group.title_en) for group in reader.metrics.groups}
            groups = [(group.title_zh, group.ids) for group in reader.metrics.groups]
            listed = sorted(groups, key=lambda group: place(group[0]))
            label = names(self._symbols, lambda dimension, value: reader.label(dimension, value, text))
            compared = {one.figure.metric_id: one for one in Composer(reader, listed, label).compared(month)}
            balances = reader.balances(month)
            failing = any(one.difference for one in balances)
            return MonthView(
                month,
                reader.frozen.state(month.number),
                reader.events(month),
                reader.deliveries(month),
                reader.frozen.decisions.get(month.number, []),
                [(titles[title], [compared[one] for one in ids if one in compared]) for title, ids in listed],
                [(label("department_code", one.department), one) for one in balances],
                reader.moved_cases(month) if failing else (),
                [str(gap) for gap in reader.gaps if gap.month == month.number],
            )

    def figure(self, metric_id: str, month: str, where: Mapping[str, str], by: str | None) -> FigureView:
        """Return a figure, of all its population or of these values of its dimensions, down to sample events."""
        with self._reading() as reader:
            label = names(self._symbols, lambda dimension, value: reader.label(dimension, value, month))
            explanation = explain(reader, metric_id, month, where=where)
            rows = reader.breakdown(metric_id, month, by, BREAKDOWN, where=where) if by else []
            return FigureView(
                explanation,
                [] if where else reader.series(metric_id, month, SERIES),
                reader.metric(metric_id, month).dimensions,
                by,
                [(one.dimensions[by], label(by, one.dimensions[by]), one) for one in rows] if by else [],
            )

    def adjustments(self, month: str) -> list[Adjustment]:
        """Return what became of a closed month since; raises ConflictError while it is open."""
        with self._reading() as reader:
            return adjustments(reader, month)

    def refusals(self, month: str) -> list[str]:
        """Return what speaks against closing a month now; raises UnavailableError."""
        return closing_of(self._settings, self._kafka, self._metrics(), self._connections).refusals(month)

    def decide(self, choice: Choice, month: str, signature: Signature) -> Decided:
        """Take a decision and publish it; raises ConflictError, InvalidError, ClosingRefusedError or UnavailableError.

        It stands also where its events can't be published yet.
        """
        closing = closing_of(self._settings, self._kafka, self._metrics(), self._connections)
        if choice == "provisional":
            closing.make_provisional(month, signature)
            return Decided(choice, month, None, None)
        outcome = closing.close(month, signature) if choice == "close" else closing.restate(month, signature)
        try:
            self._announcer.announce()
        except UnavailableError as error:
            return Decided(choice, month, outcome, str(error))
        return Decided(choice, month, outcome, None)

    def issue(self, month: str, form: Format, language: str) -> Issue:
        """Return an issue of the bulletin; raises NotFoundError for a month without data, and InvalidError."""
        with self._reading() as reader:
            composed = compose(reader, month, self._settings.reporting.bulletin, None, language)
        content = written(form, composed.bulletin, language)
        return Issue(form, f"{composed.bulletin.title}-{month}.{form}", content, composed.warnings)

    def download(self, month: str, form: ExportFormat) -> str:
        """Return a closed month's figures for other programs; raises ConflictError while it is open."""
        with self._reading() as reader:
            return export(reader, month, form)

    @contextmanager
    def _reading(self) -> Iterator[FigureReader]:
        self._check()
        dsn, made = dsn_of(self._settings.database), self._connections
        with figures(dsn, self._consumer, self._metrics(), self._shapes, connections=made) as reader:
            yield reader

    def _metrics(self) -> Metrics:
        """Return the definitions, read again where the statisticians' own have been written since."""
        folder = self._settings.statistics.metrics
        stamp = _stamp(folder) if folder is not None else None
        with self._lock:
            if self._loaded is None or self._loaded[0] != stamp:
                self._loaded = (stamp, metrics_of(self._settings))
            return self._loaded[1]


def _last(reader: FigureReader, month: Month) -> Decision | None:
    decided = reader.frozen.decisions.get(month.number)
    return decided[-1] if decided else None


def _stamp(folder: Path) -> list[tuple[str, int]]:
    return [(path.name, path.stat().st_mtime_ns) for path in sorted(folder.glob("*.yaml"))]
