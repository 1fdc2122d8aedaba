"""An agency's own database: rows, parked events and the cursor in one transaction, by SQLAlchemy Core."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
import pymysql
from sqlalchemy import BigInteger, Column, String, Table, create_engine, func, inspect, select, true, update
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateColumn

from consumers.runner.rows import Never
from consumers.table_sink.change import Change, Stopped
from consumers.table_sink.columns import Instant, Long, data_columns, own_columns, table_of, value_of, values_of
from schemas.receipts import with_words
from services.runtime.errors import DatabaseUnavailableError, HongyanError, UnavailableError
from services.runtime.kafka.port import Record

CONNECT_TIMEOUT_S = 5
_DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mariadb+pymysql"}
# pymysql tells these data errors as operational ones: wrong value, cut off, out of range, null, constraints.
_MYSQL_DATA = frozenset({1048, 1264, 1265, 1292, 1364, 1366, 1406, 1452, 3140, 3819, 4025})
_DATA = (psycopg.DataError, psycopg.IntegrityError, pymysql.err.DataError, pymysql.err.IntegrityError)
_REFUSED = "接收单位的数据库拒收 (the agency's database refused it)"
_CURSOR = "hongyan_cursor"
_PARKED = "hongyan_parked"


class CursorLostError(UnavailableError):
    """Another sink has moved this feed's cursor meanwhile; it must be read again."""


class EventRefusedError(HongyanError):
    """The database refuses the data of this event."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that was put aside, and why; ``decided`` when that was a person's decision.

    ``words`` are the database's own: they may say again what stood in the event.
    """

    record: Record
    reason: str
    decided: bool = False
    words: str = ""

    @classmethod
    def kept(cls, record: Record, reason: str, *, decided: bool) -> Refusal:
        """Return what the agency's table of parked events says."""
        ours, _, words = reason.partition(f"{_REFUSED}: ")
        return cls(record, reason, decided) if ours else cls(record, _REFUSED, decided, words)


@dataclass(frozen=True, slots=True)
class Stand:
    """Where a feed stands in the tables: the offset that comes next, and which making of the feed's topic it is of.

    ``making`` is the topic's id; empty where it was never noted.
    """

    offset: int
    making: str = ""


class Target:
    """One agency's database over one connection; made anew after an outage."""

    def __init__(self, dsn: str, prefix: str, feed: str) -> None:
        try:
            url = make_url(dsn)
        except ArgumentError as error:
            raise HongyanError(f"数据库地址无效 (no database address): {error}") from error
        url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
        timeout = {"connect_timeout": CONNECT_TIMEOUT_S}
        self._engine = create_engine(url, poolclass=NullPool, connect_args=timeout)
        self._postgresql = self._engine.dialect.name == "postgresql"
        if not self._postgresql and self._engine.dialect.name not in {"mysql", "mariadb"}:
            raise HongyanError("表格渠道支持 PostgreSQL 与 MySQL/MariaDB (PostgreSQL and MySQL only)")
        self._prefix = prefix
        self._feed = feed
        self._connection: Connection | None = None
        self._tables: dict[str, Table] = {}
        self._cursors = table_of(
            prefix + _CURSOR,
            [
                Column("feed", String(250), primary_key=True),
                Column("next_offset", BigInteger, nullable=False),
                Column("topic_id", String(64)),
            ],
        )
        self._parked = table_of(
            prefix + _PARKED,
            [
                Column("feed", String(250), primary_key=True),
                Column("cursor", BigInteger, primary_key=True, autoincrement=False),
                Column("event", Long),
                Column("reason", Long, nullable=False),
                Column("parked_at", Instant, nullable=False),
            ],
        )

    def cursor(self) -> Stand | None:
        """Return where the feed stands, None for one that never came here; makes the tables at first."""
        held = self._cursors.c
        with self._outages(), self._connected() as connection:
            for table in (self._cursors, self._parked):
                table.create(connection, checkfirst=True)
            self._add_columns(connection, self._cursors.name, [held.topic_id])
            connection.commit()
            mine = select(held.next_offset, held.topic_id).where(held.feed == self._feed)
            found = connection.execute(mine).one_or_none()
            connection.rollback()
        return Stand(int(found.next_offset), found.topic_id or "") if found is not None else None

    def begin(self, offset: int, making: str) -> None:
        """Let the feed stand here, whatever it said before; what was put aside from here on will be decided anew."""
        ahead = self._parked.c.feed == self._feed, self._parked.c.cursor >= offset
        with self._outages(), self._connected() as connection, connection.begin():
            connection.execute(self._parked.delete().where(*ahead))
            connection.execute(self._cursors.delete().where(self._cursors.c.feed == self._feed))
            connection.execute(self._cursors.insert().values(feed=self._feed, next_offset=offset, topic_id=making))

    def apply(self, changes: Sequence[tuple[Record, Change | Never]], expected: int, following: int) -> list[Refusal]:
        """Put rows and move the cursor, all in one transaction; return the events that the database refuses.

        Those are kept in the table of parked events. Raises DatabaseUnavailableError or CursorLostError.
        """
        with self._outages():
            for _, change in changes:
                if isinstance(change, Change):
                    self._ensure(change)
            try:
                return self._apply(changes, expected, following, one_by_one=False)
            except EventRefusedError:
                return self._apply(changes, expected, following, one_by_one=True)

    def parked(self, records: Sequence[Record]) -> list[Refusal]:
        """Return those of a stretch of the feed that were put aside."""
        if not records:
            return []
        held, by_cursor = self._parked.c, {record.offset: record for record in records}
        query = select(held.cursor, held.reason, held.event).where(
            held.feed == self._feed, held.cursor.between(records[0].offset, records[-1].offset)
        )
        with self._outages(), self._connected() as connection, connection.begin():
            found = connection.execute(query).all()
        return [Refusal.kept(by_cursor[int(cursor)], why, decided=event is None) for cursor, why, event in found]

    def _apply(
        self, changes: Sequence[tuple[Record, Change | Never]], expected: int, following: int, *, one_by_one: bool
    ) -> list[Refusal]:
        refusals: list[Refusal] = []
        with self._connected() as connection, connection.begin():
            moved = update(self._cursors).where(
                self._cursors.c.feed == self._feed, self._cursors.c.next_offset == expected
            )
            if connection.execute(moved.values(next_offset=following)).rowcount != 1:
                raise CursorLostError
            for record, change in changes:
                if isinstance(change, Never):
                    refusals.append(Refusal(record, change.reason, isinstance(change, Stopped)))
                elif words := self._put(connection, change, one_by_one):
                    refusals.append(Refusal(record, _REFUSED, words=words))
                else:
                    continue
                self._park(connection, refusals[-1])
        return refusals

    def _put(self, connection: Connection, change: Change, one_by_one: bool) -> str | None:
        """Put a row; return why the database refuses it, where each is tried on its own."""
        if not one_by_one:
            with _refused():
                connection.execute(self._upsert(change))
            return None
        try:
            with connection.begin_nested(), _refused():
                connection.execute(self._upsert(change))
        except EventRefusedError as error:
            return str(error)
        return None

    def _upsert(self, change: Change) -> Any:  # noqa: ANN401  (each dialect has its own statement)
        """Return the statement: an event of an earlier time than the row's (a late replay) does not change it.

        A follow-up in its place in the feed does, and the row keeps the later time: what is put back afterwards, and
        was before it, must not count as newer.
        """
        table = self._tables[change.table]
        own = {
            "hongyan_source": change.source,
            "hongyan_key": change.key,
            "hongyan_state": change.state,
            "hongyan_event_id": change.event_id,
            "hongyan_cursor": change.cursor,
            "hongyan_time": value_of(change.time, aware=self._postgresql),
        }
        data = values_of(change.data, aware=self._postgresql)
        # What this event says nothing of stays as an earlier one of the same thing said it.
        said = own | {name: value for name, value in data.items() if change.whole or value is not None}
        changing = [name for name in said if name not in {"hongyan_source", "hongyan_key"}]
        if self._postgresql:
            put = postgresql.insert(table).values(said)
            later = func.greatest(table.c.hongyan_time, put.excluded.hongyan_time)
            return put.on_conflict_do_update(
                index_elements=["hongyan_source", "hongyan_key"],
                set_={name: put.excluded[name] for name in changing} | {"hongyan_time": later},
                where=None if change.in_order else table.c.hongyan_time <= put.excluded.hongyan_time,
            )
        into = mysql.insert(table).values(said)
        newer = true() if change.in_order else into.inserted.hongyan_time >= table.c.hongyan_time
        later = func.greatest(table.c.hongyan_time, into.inserted.hongyan_time)
        # MySQL assigns from left to right: the time comes last, since the others are compared by it.
        changing.remove("hongyan_time")
        return into.on_duplicate_key_update(
            [
                *((name, func.if_(newer, into.inserted[name], table.c[name])) for name in changing),
                ("hongyan_time", later),
            ]
        )

    def _park(self, connection: Connection, refusal: Refusal) -> None:
        """Keep what was refused; of what was stopped the agency's database is told the reason alone."""
        record = refusal.record
        said = ", ".join(f"{name}={value.decode(errors='replace')}" for name, value in record.headers)
        values = {
            "feed": self._feed,
            "cursor": record.offset,
            "event": None if refusal.decided else said,
            "reason": with_words(refusal.reason, refusal.words),
            "parked_at": value_of(datetime.now(UTC), aware=self._postgresql),
        }
        connection.execute(self._parked.insert().values(values))

    def _ensure(self, change: Change) -> None:
        """Make the table of a change, and the columns that it lacks; outside the transaction: MySQL can't inside."""
        known = self._tables.get(change.table)
        wanted: Mapping[str, Column[Any]] = {column.name: column for column in data_columns(change.schema)}
        if known is not None and wanted.keys() <= set(known.c.keys()):
            return
        name = self._prefix + change.table
        with self._connected() as connection:
            if not inspect(connection).has_table(name):
                table_of(name, [*own_columns(), *wanted.values()]).create(connection, checkfirst=True)
            self._add_columns(connection, name, wanted.values())
            connection.commit()
        old = {} if known is None else {c.name: c for c in known.c if c.name not in wanted}
        own = own_columns()
        rest = [column.copy() for column in old.values() if column.name not in {c.name for c in own}]
        self._tables[change.table] = table_of(name, [*own, *data_columns(change.schema), *rest])

    @staticmethod
    def _add_columns(connection: Connection, name: str, wanted: Iterable[Column[Any]]) -> None:
        """Add the columns that a table lacks."""
        held = {column["name"] for column in inspect(connection).get_columns(name)}
        for column in (column for column in wanted if column.name not in held):
            definition = CreateColumn(column.copy()).compile(dialect=connection.dialect)
            quoted = connection.dialect.identifier_preparer.quote(name)
            connection.exec_driver_sql(f"ALTER TABLE {quoted} ADD COLUMN {definition}".replace("%", "%%"))

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        if self._connection is None:
            self._connection = self._engine.connect()
        yield self._connection

    @contextmanager
    def _outages(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            self.close()
            raise DatabaseUnavailableError(f"接收单位数据库 (the agency's database): {error.orig}") from error
        except CursorLostError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; what the database has is looked at anew."""
        connection, self._connection = self._connection, None
        self._tables.clear()
        if connection is not None:
            connection.invalidate()
            connection.close()


@contextmanager
def _refused() -> Iterator[None]:
    """Tell an event that can't be stored from a database that can't store anything now."""
    try:
        yield
    except DBAPIError as error:
        if _is_data_error(error.orig):
            raise EventRefusedError(f"{type(error.orig).__name__}: {error.orig}".strip()) from error
        raise


def _is_data_error(error: BaseException | None) -> bool:
    if isinstance(
        error, psycopg.DataError | psycopg.IntegrityError | pymysql.err.DataError | pymysql.err.IntegrityError
    ):
        return True
    return isinstance(error, pymysql.err.Error) and bool(error.args) and error.args[0] in _MYSQL_DATA
