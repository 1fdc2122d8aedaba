"""What can't be counted from the log any more: facts of closed months that the store began after.

A store that was emptied counts the log again from its beginning. Where Kafka keeps the log's first records no longer,
they are not counted again: what was published of a closed month stays, but what would be counted now is not all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import psycopg

from services.runtime.errors import ConflictError, DatabaseUnavailableError
from services.runtime.positions import NO_TABLES, PartitionKey
from services.statistics.figure import Month
from services.statistics.frozen import Decision, Frozen
from services.statistics.store import in_schema, read_sql


@dataclass(frozen=True, slots=True)
class Gap:
    """Records of one log, from ``start`` up to ``end``, that a month was closed with and that the store has no more."""

    month: int
    partition: PartitionKey
    start: int
    end: int

    def __str__(self) -> str:
        topic, number = self.partition
        return (
            f"{Month.of_number(self.month)}：{topic}/{number} 第 {self.start}–{self.end - 1} 条记录已不在日志中，"
            f"不能重新统计 (these records are on the log no more, and can't be counted again)"
        )


class CountedNoMoreError(ConflictError):
    """Not all that a closed month was counted from is there; what was published is answered all the same."""


def log_starts(connection: psycopg.Connection, consumer: str) -> dict[PartitionKey, int]:
    """Return from which offset on the facts of each partition are here."""
    rows = connection.execute(read_sql("log_starts"), (consumer,)).fetchall()
    return {(topic, partition): began for topic, partition, began in rows}


def gaps(frozen: Frozen, starts: Mapping[PartitionKey, int]) -> list[Gap]:
    """Return what closed months lack, the earliest first."""
    decided = [found for month in sorted(frozen.decisions) if (found := frozen.decision(month)) is not None]
    return [gap for decision in decided for gap in _gaps(decision, starts)]


def _gaps(decision: Decision, starts: Mapping[PartitionKey, int]) -> Iterator[Gap]:
    for name, counted_to in decision.positions.items():
        topic, _, number = name.rpartition("/")
        partition = (topic, int(number))
        was, now = decision.starts.get(name, 0), starts.get(partition, 0)
        if was < min(now, counted_to):
            yield Gap(decision.month, partition, was, min(now, counted_to))


def gaps_now(dsn: str, consumer: str) -> list[Gap]:
    """Return what closed months lack now; raises DatabaseUnavailableError."""
    try:
        with psycopg.connect(in_schema(dsn), connect_timeout=3) as connection:
            return gaps(Frozen(connection), log_starts(connection, consumer))
    except psycopg.OperationalError as error:
        raise DatabaseUnavailableError(f"PostgreSQL: {error}") from error
    except psycopg.errors.UndefinedTable as error:
        raise DatabaseUnavailableError(NO_TABLES) from error


def missing_starts(frozen: Frozen, starts: Mapping[PartitionKey, int]) -> list[str]:
    """Return a line for each log whose first records no figure counts and nobody has closed a month over yet."""
    decided = [found for month in frozen.decisions if (found := frozen.decision(month)) is not None]
    known = max(decided, key=lambda one: one.decided_at).starts if decided else {}
    return [
        f"{topic}/{number} 自第 {began} 条记录起统计，此前的已不在日志中 (what came before is on the log no more)"
        for (topic, number), began in sorted(starts.items())
        if began > known.get(f"{topic}/{number}", 0)
    ]


class HasGaps(Protocol):
    """What knows the gaps of closed months."""

    @property
    def gaps(self) -> Sequence[Gap]:
        """Return them."""
        ...


def check_counted(reader: HasGaps, month: Month) -> None:
    """Raise CountedNoMoreError where a closed month can't be told as now known, because the log has it no more."""
    found = [gap for gap in reader.gaps if gap.month == month.number]
    if found:
        lines = "\n".join(f"  · {gap}" for gap in found)
        raise CountedNoMoreError(
            f"不能按现在所知重新统计，公布数不变 (can't be counted as now known; what was published stands)：\n{lines}"
        )
