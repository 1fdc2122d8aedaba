"""Closes a month: by a named person, for a reason, and when nothing speaks against it or somebody answers for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import psycopg
from psycopg.types.json import Jsonb

from services.runtime.clock import Clock
from services.runtime.database import Connections
from services.runtime.errors import ConflictError, FieldProblem, HongyanError, InvalidError
from services.runtime.positions import PartitionKey
from services.statistics.balance import Balance, balances, moved_cases
from services.statistics.definition import Metric
from services.statistics.figure import Figure, Month, figure_of
from services.statistics.freezing import FrozenFigure, digest_of, freeze, plain
from services.statistics.gaps import check_counted, missing_starts
from services.statistics.loading import Metrics
from services.statistics.naming import event_types
from services.statistics.reading import FigureReader
from services.statistics.settling import settled
from services.statistics.shapes import Shape
from services.statistics.store import SCHEMA, read_sql

_MOST_LISTED = 50

Guard = Callable[[Month, Mapping[PartitionKey, int]], Sequence[str]]
"""Tells what the log has against closing a month that is counted up to these positions: lag, and dead letters."""


class ClosingRefusedError(HongyanError):
    """The month can't be closed as it stands."""

    retriable: ClassVar[bool] = False

    def __init__(self, refusals: Sequence[str]) -> None:
        lines = "\n".join(f"  · {one}" for one in refusals)
        super().__init__(
            f"不能关账 (can't be closed)：\n{lines}\n"
            "处理后再关账，或用 --override 写明理由并由署名人担责 (mend it, or override it with a reason)"
        )
        self.refusals = tuple(refusals)


@dataclass(frozen=True, slots=True)
class Signature:
    """Who decides, why, and why in spite of refusals."""

    by: str
    reason: str
    override: str | None = None

    def check(self) -> None:
        """Raise InvalidError where the person or the reason is not named."""
        texts = {"by": self.by, "reason": self.reason}
        texts |= {} if self.override is None else {"override": self.override}
        problems = [FieldProblem(f"/{name}", "缺少 (missing)") for name, text in texts.items() if not text.strip()]
        if problems:
            raise InvalidError(problems)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a decision came to."""

    month: str
    revision: int
    digest: str
    refusals: Sequence[str]
    figures: int
    restated: Sequence[str] = ()


class Closing:
    """Takes the decisions about months of one installation."""

    def __init__(
        self,
        dsn: str,
        consumer: str,
        metrics: Metrics,
        shapes: Mapping[str, Shape],
        guard: Guard,
        clock: Clock,
        connections: Connections | None = None,
    ) -> None:
        self._dsn = dsn
        self._consumer = consumer
        self._metrics = metrics
        self._shapes = shapes
        self._guard = guard
        self._clock = clock
        self._connections = connections

    def refusals(self, month: str) -> list[str]:
        """Return what speaks against closing a month now."""
        with self._reading() as (connection, reader):
            return self._refusals(connection, reader, Month.parse(month))

    def make_provisional(self, month: str, signature: Signature) -> None:
        """Declare a month's figures provisional; raises ConflictError once it is closed."""
        signature.check()
        with self._reading() as (connection, reader):
            at = self._open(reader, month)
            self._decide(connection, at, 0, "provisional", signature, (), {}, None)

    def close(self, month: str, signature: Signature) -> Outcome:
        """Freeze a month; raises InvalidError, ConflictError when it is closed, ClosingRefusedError."""
        signature.check()
        with self._reading() as (connection, reader):
            at = self._open(reader, month)
            refusals = self._refusals(connection, reader, at)
            if refusals and signature.override is None:
                raise ClosingRefusedError(refusals)
            figures = freeze(reader, at, self._metrics.holding(month))
            outcome = self._keep(connection, reader, at, 1, "closed", signature, refusals, figures)
            data = self._closed_data(at, signature, outcome, figures)
            _announce(connection, f"closed-{month}", "closed", data)
        return outcome

    def restate(self, month: str, signature: Signature) -> Outcome:
        """Publish a closed month's figures as now known beside what was published; raises ConflictError."""
        signature.check()
        with self._reading() as (connection, reader):
            at = Month.parse(month)
            before = reader.frozen.decision(at.number)
            if before is None:
                raise ConflictError(f"{month} 尚未关账 (is not closed)")
            check_counted(reader, at)
            figures = freeze(reader, at, reader.frozen.definitions(at.number))
            changed = _changed(reader, at, before.revision, figures)
            if not changed:
                raise ConflictError(f"{month} 各数与公布数相同，不必更正 (no figure has changed)")
            revision = before.revision + 1
            refusals = self._refusals(connection, reader, at)
            outcome = self._keep(connection, reader, at, revision, "restated", signature, refusals, figures, changed)
            self._announce_changes(connection, reader, at, signature, outcome, figures)
        return outcome

    @contextmanager
    def _reading(self) -> Iterator[tuple[psycopg.Connection, FigureReader]]:
        with settled(self._dsn, SCHEMA, self._connections) as connection:
            yield connection, FigureReader(connection, self._consumer, self._metrics, self._shapes)

    def _open(self, reader: FigureReader, month: str) -> Month:
        at = Month.parse(month)
        if reader.frozen.decision(at.number) is not None:
            raise ConflictError(f"{month} 已经关账 (is closed already)")
        if self._clock.now() < at.bounds[1]:
            raise ConflictError(f"{month} 还没有结束 (is not over yet)")
        return at

    def _refusals(self, connection: psycopg.Connection, reader: FigureReader, month: Month) -> list[str]:
        found = [*self._guard(month, reader.positions()), *missing_starts(reader.frozen, reader.starts)]
        wrong = [one for one in balances(connection, reader.units, month) if one.difference]
        found += [_unbalanced(one) for one in wrong]
        if wrong:
            found += [f"  涉及办件 (case): {case}" for case in moved_cases(connection, reader.units, month)]
        dangling = connection.execute(read_sql("dangling"), {"month": month.number, "limit": _MOST_LISTED}).fetchall()
        found += [_dangling(*row) for row in dangling]
        return found[:_MOST_LISTED]

    def _keep(
        self,
        connection: psycopg.Connection,
        reader: FigureReader,
        month: Month,
        revision: int,
        state: str,
        signature: Signature,
        refusals: Sequence[str],
        figures: Sequence[FrozenFigure],
        restated: Sequence[str] = (),
    ) -> Outcome:
        digest = digest_of(month, figures)
        for metric in {one.metric.id: one.metric for one in figures}.values():
            connection.execute(
                read_sql("definition_add"), (metric.id, metric.version, metric.digest, metric.canonical())
            )
        positions = {f"{topic}/{number}": offset for (topic, number), offset in sorted(reader.positions().items())}
        starts = {f"{topic}/{number}": offset for (topic, number), offset in sorted(reader.starts.items())}
        self._decide(connection, month, revision, state, signature, refusals, positions, digest, starts)
        rows = [
            (
                month.number,
                revision,
                one.metric.id,
                "".join(one.dimensions),
                "".join(one.names),
                one.metric.version,
                plain(one.value.exact),
                one.value.count,
                one.events_digest,
            )
            for one in figures
            if len(one.dimensions) < 2
        ]
        connection.cursor().executemany(read_sql("figure_add"), rows)
        connection.cursor().executemany(read_sql("crossed_add"), _crossed(month, revision, figures))
        return Outcome(str(month), revision, digest, tuple(refusals), len(rows), tuple(restated))

    def _decide(
        self,
        connection: psycopg.Connection,
        month: Month,
        revision: int,
        state: str,
        signature: Signature,
        refusals: Sequence[str],
        positions: Mapping[str, int],
        digest: str | None,
        starts: Mapping[str, int] | None = None,
    ) -> None:
        values = {
            "month": month.number,
            "revision": revision,
            "state": state,
            "by": signature.by,
            "reason": signature.reason,
            "override": signature.override if refusals else None,
            "refusals": Jsonb(list(refusals)),
            "positions": Jsonb(dict(positions)),
            "starts": Jsonb(dict(starts or {})),
            "digest": digest,
            "at": self._clock.now(),
        }
        try:
            connection.execute(read_sql("decision_add"), values)
        except (psycopg.errors.UniqueViolation, psycopg.errors.SerializationFailure) as error:
            raise ConflictError(f"{month} 刚由他人作出同样的决定 (somebody has just decided the same)") from error

    def _closed_data(
        self, month: Month, signature: Signature, outcome: Outcome, figures: Sequence[FrozenFigure]
    ) -> dict[str, Any]:
        whole = [
            figure_of(one.metric, month, one.value.exact, one.value.count) for one in figures if not one.dimensions
        ]
        return {
            "month": str(month),
            "closed_at": self._clock.now().isoformat(),
            "closed_by": signature.by,
            "reason": signature.reason,
            "override_reason": signature.override if outcome.refusals else None,
            "refusals": list(outcome.refusals),
            "digest": outcome.digest,
            "figures": [_said(one) for one in whole],
        }

    def _announce_changes(
        self,
        connection: psycopg.Connection,
        reader: FigureReader,
        month: Month,
        signature: Signature,
        outcome: Outcome,
        figures: Sequence[FrozenFigure],
    ) -> None:
        whole = {one.metric.id: one for one in figures if not one.dimensions}
        for metric_id in outcome.restated:
            one = whole[metric_id]
            before = reader.figure(metric_id, str(month))
            after = figure_of(one.metric, month, one.value.exact, one.value.count)
            data = {
                "month": str(month),
                "revision": outcome.revision,
                "metric_id": metric_id,
                "label_zh": one.metric.label_zh,
                "exact_before": plain(before.exact),
                "exact_after": plain(after.exact),
                "shown_before": before.shown,
                "shown_after": after.shown,
                "shown_unit": after.shown_unit,
                "restated_at": self._clock.now().isoformat(),
                "restated_by": signature.by,
                "reason": signature.reason,
            }
            _announce(connection, f"restated-{month}-{outcome.revision}-{metric_id}", "restated", data)


def _unbalanced(one: Balance) -> str:
    return (
        f"平衡不成立 {one.department or '（无部门）'}：期初 {one.opening} + 无受理 {one.unregistered} + "
        f"受理 {one.accepted} − 撤回 {one.withdrawn} − 办结 {one.completed} ≠ 期末 {one.closing} "
        f"(the balance fails by {one.difference})"
    )


def _dangling(event_id: str, case_key: str) -> str:
    return (
        f"更正 {event_id}（{case_key}）所指的原事件不在同一业务主键下，原件可能仍在计数：请原发布方用墓碑记录撤回它 "
        f"(what it follows is not there under its business key, so that the original may count still)"
    )


def _changed(reader: FigureReader, month: Month, revision: int, figures: Sequence[FrozenFigure]) -> list[str]:
    """Return the metrics of which the whole figure is another than in a revision."""
    kept = reader.frozen.figures(month.number, revision)
    return [one.metric.id for one in figures if not one.dimensions and kept[one.metric.id, "", ""] != one.value]


def _crossed(month: Month, revision: int, figures: Sequence[FrozenFigure]) -> list[tuple[object, ...]]:
    """Return the figures by two dimensions as rows, one for each metric and pair."""
    found: dict[tuple[str, ...], list[object]] = {}
    for one in figures:
        if len(one.dimensions) == 2:
            said = [*one.names, plain(one.value.exact), one.value.count]
            found.setdefault((one.metric.id, *one.dimensions), []).append(said)
    return [(month.number, revision, *key, Jsonb(values)) for key, values in found.items()]


def _said(figure: Figure) -> dict[str, Any]:
    names = ("metric_id", "version", "label_zh", "unit", "shown", "shown_unit", "count")
    return {name: getattr(figure, name) for name in names} | {"exact": plain(figure.exact)}


def _announce(connection: psycopg.Connection, event_id: str, part: str, data: Mapping[str, Any]) -> None:
    connection.execute(read_sql("outbox_add"), (event_id, event_types()["announced"][part], Jsonb(dict(data))))


def verify_digest(reader: FigureReader, month: Month, metrics: Sequence[Metric]) -> str:
    """Return the digest that a month has in a store which was counted up to its closing."""
    crossed = reader.frozen.is_crossed(month.number)
    return digest_of(month, freeze(reader, month, metrics, crossed=crossed))
