"""What people decided and what was frozen by it: closed months, their definitions and figures, imported history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

import psycopg

from services.statistics.counting import Group, Value, nothing
from services.statistics.definition import Metric
from services.statistics.loading import Metrics, MetricsError
from services.statistics.store import read_sql


@dataclass(frozen=True, slots=True)
class Decision:
    """A month's state after one decision. ``revision`` 0 is provisional, 1 closed, and further ones restated."""

    month: int
    revision: int
    state: str
    decided_by: str
    reason: str
    override: str | None
    refusals: tuple[str, ...]
    positions: Mapping[str, int]
    starts: Mapping[str, int]
    digest: str | None
    decided_at: datetime


class Frozen:
    """Reads it, over one connection."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._figures: dict[tuple[int, int], dict[tuple[str, str, str], Value]] = {}

    @cached_property
    def decisions(self) -> Mapping[int, list[Decision]]:
        """Return the decisions about each month, the earliest first."""
        found: dict[int, list[Decision]] = {}
        for row in self._connection.execute(read_sql("decisions")):
            month, revision, state, by, reason, override, refusals, *rest = row
            decision = Decision(month, revision, state, by, reason, override, tuple(refusals), *rest)
            found.setdefault(decision.month, []).append(decision)
        return found

    def decision(self, month: int) -> Decision | None:
        """Return the decision that closed or restated a month last; None while it is open or provisional."""
        decided = [one for one in self.decisions.get(month, []) if one.revision]
        return decided[-1] if decided else None

    def state(self, month: int) -> str:
        """Return ``open``, ``provisional``, ``closed`` or ``restated``."""
        decided = self.decisions.get(month)
        return decided[-1].state if decided else "open"

    @cached_property
    def _definitions(self) -> Mapping[tuple[str, int], tuple[str, str]]:
        rows = self._connection.execute(read_sql("definitions"))
        return {(metric_id, version): (digest, document) for metric_id, version, digest, document in rows}

    def check_unchanged(self, metrics: Metrics) -> None:
        """Raise MetricsError for a definition that changed though a closed month was counted by this version."""
        problems = [
            f"{metric.id}: 第 {metric.version} 版已用于关账月份，内容不能再改；请写新的 version 与 valid_from "
            f"(version {metric.version} counted a closed month and may not change; write another version)"
            for metric in metrics.all()
            if self._definitions.get((metric.id, metric.version), (metric.digest,))[0] != metric.digest
        ]
        if problems:
            raise MetricsError(problems)

    def definition(self, metric_id: str, month: int) -> Metric | None:
        """Return the definition by which a closed month was counted; None where the month is not closed."""
        version = self._versions(month).get(metric_id)
        return None if version is None else Metric.restore(self._definitions[metric_id, version][1])

    def definitions(self, month: int) -> list[Metric]:
        """Return all definitions by which a closed month was counted."""
        return [found for one in self._versions(month) if (found := self.definition(one, month)) is not None]

    def _versions(self, month: int) -> Mapping[str, int]:
        decision = self.decision(month)
        if decision is None:
            return {}
        if month not in self._kept_versions:
            rows = self._connection.execute(read_sql("frozen_versions"), (month, decision.revision))
            self._kept_versions[month] = dict(rows.fetchall())
        return self._kept_versions[month]

    @cached_property
    def _kept_versions(self) -> dict[int, Mapping[str, int]]:
        return {}

    def value(self, metric_id: str, month: int, where: Mapping[str, str], revision: int | None = None) -> Value | None:
        """Return a frozen figure; None where it was not frozen: an open month, or more than two dimensions at once."""
        kept = self.values(metric_id, month, tuple(where), revision)
        definition = self.definition(metric_id, month)
        if kept is None or definition is None:
            return None
        return kept.get(tuple(where.values()), nothing(definition))

    def values(
        self, metric_id: str, month: int, dimensions: Group, revision: int | None = None
    ) -> dict[Group, Value] | None:
        """Return the frozen figures by the values of none, one or two dimensions; None where there are none."""
        decision = self.decision(month)
        if decision is None or metric_id not in self._versions(month):
            return None
        number = revision or decision.revision
        if len(dimensions) > 1:
            return self._crossed(metric_id, month, number, dimensions)
        named = "".join(dimensions)
        kept = self.figures(month, number).items()
        return {(one,) * len(dimensions): found for (of, by, one), found in kept if (of, by) == (metric_id, named)}

    def events_digest(self, metric_id: str, month: int) -> str | None:
        """Return the digest of the events that a closed month's figure counted; None where it has none."""
        decision = self.decision(month)
        values = (month, decision.revision if decision else 0, metric_id)
        row = self._connection.execute(read_sql("frozen_digest"), values).fetchone()
        return None if row is None else row[0]

    def is_crossed(self, month: int) -> bool:
        """Tell whether a closed month's figures were frozen by two dimensions at once too."""
        decision = self.decision(month)
        values = (month, decision.revision if decision else 0)
        return self._connection.execute(read_sql("crossed_any"), values).fetchone() is not None

    def _crossed(self, metric_id: str, month: int, revision: int, dimensions: Group) -> dict[Group, Value] | None:
        values = {"month": month, "revision": revision, "metric_id": metric_id, "dimensions": list(dimensions)}
        row = self._connection.execute(read_sql("crossed"), values).fetchone() if len(dimensions) == 2 else None
        if row is None:
            return None
        turned = row[0] != dimensions[0]
        return {((b, a) if turned else (a, b)): Value(number(exact), count) for a, b, exact, count in row[1]}

    def figures(self, month: int, revision: int) -> Mapping[tuple[str, str, str], Value]:
        """Return every frozen figure of a revision, by metric, dimension and value."""
        key = (month, revision)
        if key not in self._figures:
            rows = self._connection.execute(read_sql("frozen_figures"), key)
            self._figures[key] = {(m, d, v): Value(number(exact), count) for m, d, v, exact, count in rows}
        return self._figures[key]

    @cached_property
    def history(self) -> Mapping[tuple[str, int], Decimal | int | None]:
        """Return the imported aggregates by metric and month."""
        rows = self._connection.execute(read_sql("history"))
        return {(metric_id, month): number(exact) for metric_id, month, exact in rows}


def number(text: Any) -> Decimal | int | None:  # noqa: ANN401  (a column: text or null)
    """Return a number that was kept as text, as exactly what it was."""
    if text is None:
        return None
    return int(text) if text.lstrip("-").isdigit() else Decimal(text)
