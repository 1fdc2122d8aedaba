"""Makes the statistics store again from Kafka, in a schema beside the one that serves, and compares the two."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from consumers.runner.rows import BATCH, POLL_S, Never
from consumers.statistics.projection import Projection
from services.runtime.errors import ConflictError, DatabaseUnavailableError, KafkaUnavailableError
from services.runtime.kafka.port import Consumer, Kafka, Partition
from services.runtime.positions import PartitionKey, read_positions
from services.statistics.facts import Deletion, Fact
from services.statistics.gaps import log_starts
from services.statistics.settling import settled
from services.statistics.store import SCHEMA, FactStore, in_schema, read_sql

BESIDE = "statistics_next"
RETIRED = "statistics_old"
IDLE_POLLS = 150
SWITCH_LOCK_S = 30
Targets = Mapping[Partition, int]


@dataclass(frozen=True, slots=True)
class Difference:
    """A month's cell that the two stores count differently: (events, cases) here and there."""

    month: int
    cell: int
    serving: tuple[int, int] | None
    rebuilt: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild came to."""

    records: int
    facts: int
    differences: Sequence[Difference]
    switched: bool


class Rebuild:
    """One rebuild. What is no fact was put aside when it was first read, and is only passed over here."""

    def __init__(self, kafka: Kafka, dsn: str, consumer: str, projection: Projection) -> None:
        self._kafka = kafka
        self._dsn = dsn
        self._consumer = consumer
        self._projection = projection
        self._records = 0
        self._facts = 0

    @contextmanager
    def beside(self) -> Iterator[FactStore]:
        """Give a store in a new schema beside the serving one; it is dropped afterwards unless it was switched to."""
        _execute(self._dsn, f"DROP SCHEMA IF EXISTS {BESIDE} CASCADE", f"CREATE SCHEMA {BESIDE}")
        try:
            with psycopg.connect(in_schema(self._dsn, BESIDE)) as connection:
                connection.execute(read_sql("clone"))
            store = FactStore(self._dsn, self._consumer, BESIDE)
            yield store
            store.close()
        finally:
            _execute(self._dsn, f"DROP SCHEMA IF EXISTS {BESIDE} CASCADE")

    def fill(self, store: FactStore, targets: Targets, on_progress: Callable[[int], None] = lambda _: None) -> None:
        """Store everything up to these offsets; called again it goes on. Raises UnavailableError."""
        consumer = self._kafka.consumer(None, client_id="statistics-rebuild")
        try:
            self._fill(consumer, store, targets, on_progress)
        finally:
            consumer.close()

    def _fill(self, consumer: Consumer, store: FactStore, targets: Targets, on_progress: Callable[[int], None]) -> None:
        at = self._take_over(consumer, store, targets)
        left = {partition for partition, target in targets.items() if at[partition] < target}
        consumer.pause([partition for partition in at if partition not in left])
        idle = 0
        while left:
            found = consumer.poll(POLL_S, BATCH)
            idle = 0 if found else idle + 1
            if idle > IDLE_POLLS:
                raise KafkaUnavailableError(f"{sorted(left)[0]}: Kafka 没有应答 (no answer)")
            rows: list[Fact | Deletion] = []
            moves: dict[PartitionKey, tuple[int, int]] = {}
            for partition, records in found.items():
                wanted = [record for record in records if record.offset < targets[partition]]
                following = min(targets[partition], records[-1].offset + 1)
                moves[partition.topic, partition.partition] = (at[partition], following)
                rows += [row for one in wanted if not isinstance(row := self._projection.project(one), Never | None)]
                at[partition] = following
                self._records += len(wanted)
            if moves:
                self._facts += store.store(rows, moves).added
                on_progress(self._records)
            done = {partition for partition in left if at[partition] >= targets[partition]}
            consumer.pause(done)
            left -= done

    @staticmethod
    def _take_over(consumer: Consumer, store: FactStore, targets: Targets) -> dict[Partition, int]:
        partitions = list(targets)
        consumer.assign(partitions)
        held = store.positions()
        beginnings = consumer.beginning_offsets(partitions)
        found = {}
        for partition in partitions:
            offset = held.get((partition.topic, partition.partition))
            if offset is None:
                offset = min(beginnings[partition], targets[partition])
                store.begin((partition.topic, partition.partition), offset)
            consumer.seek(partition, offset)
            found[partition] = offset
        return found

    def run(self, *, switch: bool, on_progress: Callable[[int], None] = lambda _: None) -> Rebuilt:
        """Rebuild up to where the serving store stands, compare, and switch to the new one when they agree.

        Serving goes on meanwhile; only over the last few records and the comparison its writers wait. Raises
        ConflictError where the log has not all of it any more.
        """
        self._check_kept()
        with self.beside() as store:
            self.fill(store, self._serving(), on_progress)
            with settled(self._dsn, BESIDE):
                pass
            with psycopg.connect(in_schema(self._dsn), connect_timeout=3) as connection:
                connection.execute(f"SET lock_timeout = '{SWITCH_LOCK_S}s'")
                connection.execute("LOCK TABLE consumer_offset IN SHARE ROW EXCLUSIVE MODE")
                self.fill(store, self._serving(), on_progress)
                store.close()
                with settled(self._dsn, BESIDE):
                    pass
                self._settle_serving(connection)
                differences = compare(connection)
                if switch and not differences:
                    for old, new in ((SCHEMA, RETIRED), (BESIDE, SCHEMA)):
                        connection.execute(f"ALTER SCHEMA {old} RENAME TO {new}")
            switched = switch and not differences
            if switched:
                _execute(self._dsn, f"DROP SCHEMA {RETIRED} CASCADE")
        return Rebuilt(self._records, self._facts, differences, switched)

    def _check_kept(self) -> None:
        with psycopg.connect(in_schema(self._dsn), connect_timeout=3) as connection:
            starts = log_starts(connection, self._consumer)
        if lost := self.lost({Partition(*key): offset for key, offset in starts.items()}, self._serving()):
            lines = "\n".join(f"  · {one}" for one in lost)
            raise ConflictError(f"日志已不全，重建会丢失现有事实 (a rebuild would lose facts)：\n{lines}")

    def lost(self, starts: Targets, targets: Targets) -> list[str]:
        """Return a line for each partition of which the log has no more all from its start up to a target."""
        consumer = self._kafka.consumer(None, client_id="statistics-rebuild")
        try:
            beginnings = consumer.beginning_offsets(list(targets))
        finally:
            consumer.close()
        return [
            f"{one.topic}/{one.partition} 只保留第 {beginnings[one]} 条以后的记录 (what came before is on it no more)"
            for one, target in sorted(targets.items())
            if starts.get(one, 0) < min(beginnings[one], target)
        ]

    @staticmethod
    def _settle_serving(connection: psycopg.Connection) -> None:
        connection.execute(read_sql("settle_lock"))
        connection.execute(read_sql("settle"))
        connection.execute(read_sql("cells"))

    def _serving(self) -> dict[Partition, int]:
        with psycopg.connect(in_schema(self._dsn), connect_timeout=3) as connection:
            held = read_positions(connection, self._consumer)
        return {Partition(*key): offset for key, offset in held.items()}


def compare(connection: psycopg.Connection) -> list[Difference]:
    """Return where the cells of the two stores differ, in counts or in the events behind them."""
    statement = read_sql("compare").replace(b"{beside}", BESIDE.encode())
    return [
        Difference(month, cell, None if a is None else (a, b), None if c is None else (c, d))
        for month, cell, a, b, c, d in connection.execute(statement)
    ]


def _execute(dsn: str, *statements: str) -> None:
    try:
        with psycopg.connect(dsn, connect_timeout=3, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)
    except psycopg.errors.DuplicateSchema as error:
        raise ConflictError("另一次重建正在进行 (another rebuild is running)") from error
    except psycopg.OperationalError as error:
        raise DatabaseUnavailableError(f"PostgreSQL: {error}") from error
