"""Months known only as published aggregates: loaded as such, marked, and used where months are compared."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

import psycopg

from services.runtime.errors import DatabaseUnavailableError, FieldProblem, InvalidError
from services.statistics.definition import is_month
from services.statistics.figure import Month
from services.statistics.freezing import plain
from services.statistics.loading import Metrics
from services.statistics.store import read_sql

COLUMNS = ("metric_id", "month", "exact", "source")


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One published figure of one month, as exact as it is known, and where it was published."""

    metric_id: str
    month: Month
    exact: str
    source: str


def read_aggregates(path: Path, metrics: Metrics) -> list[Aggregate]:
    """Read a CSV with the columns ``metric_id,month,exact,source``; raises InvalidError that names row and column."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise InvalidError([FieldProblem(f"/{name}", "缺少这一列 (no such column)") for name in missing])
            rows = list(enumerate(reader, start=2))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidError([FieldProblem("/", f"不能读取 (can't be read): {error}")]) from error
    problems = [problem for number, row in rows for problem in _problems(number, row, metrics)]
    if problems:
        raise InvalidError(problems)
    return [
        Aggregate(
            row["metric_id"], Month.parse(row["month"]), plain(Decimal(row["exact"])) or "", row["source"].strip()
        )
        for _, row in rows
    ]


def _problems(number: int, row: dict[str, str], metrics: Metrics) -> Iterator[FieldProblem]:
    if row["metric_id"] not in metrics.ids():
        yield FieldProblem(f"/{number}/metric_id", f"没有指标 (no such metric) {row['metric_id']}")
    if not is_month(row["month"] or ""):
        yield FieldProblem(f"/{number}/month", f"应为 2025-12 这样的年月 (a month like 2025-12): {row['month']}")
    try:
        if not Decimal(row["exact"]).is_finite():
            yield FieldProblem(f"/{number}/exact", f"不是数 (no number): {row['exact']}")
    except (InvalidOperation, TypeError):
        yield FieldProblem(f"/{number}/exact", f"不是数 (no number): {row['exact']}")
    if not (row["source"] or "").strip():
        yield FieldProblem(f"/{number}/source", "缺少公布出处 (where it was published is missing)")


def keep_aggregates(dsn: str, aggregates: list[Aggregate], imported_by: str) -> int:
    """Keep them, in place of older ones of the same metric and month; raises InvalidError or UnavailableError."""
    if not imported_by.strip():
        raise InvalidError([FieldProblem("/by", "缺少 (missing)")])
    rows = [(one.metric_id, one.month.number, one.exact, one.source, imported_by) for one in aggregates]
    try:
        with psycopg.connect(dsn, connect_timeout=3) as connection:
            connection.cursor().executemany(read_sql("history_add"), rows)
    except psycopg.OperationalError as error:
        raise DatabaseUnavailableError(f"PostgreSQL: {error}") from error
    return len(rows)
