"""The outbox table in a department's own database (:mod:`producers.department.database`)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import psycopg
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    any_,
    bindparam,
    cast,
    inspect,
    select,
    text,
)
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql.elements import ColumnElement

from producers.department.database import DatabaseSettingError, DepartmentDatabase
from schemas.tracing import MAX_STATE, PARENT, STATE

TABLE = "hongyan_outbox"
CHANNEL = "hongyan_outbox"
WAIT_SLICE_S = 0.5
MAX_REASON = 4000
# 0x686f6e67 is "hong" in ASCII, so that no other application's lock is taken for ours; the rest is the table's own oid.
_POSTGRESQL_LOCK = "SELECT pg_try_advisory_lock((1752133223::bigint << 32) | CAST(:table AS regclass)::oid::bigint)"
_MYSQL_LOCK = "SELECT GET_LOCK(SHA1(:table), 0)"

After = Literal["mark", "delete"]


class OutboxRow(NamedTuple):
    """One event as the department has written it; ``payload`` is JSON text."""

    id: str
    key: str
    type: str
    payload: str
    source: str | None
    time: str | None
    follows: str | None
    division: str | None
    traceparent: str | None = None
    tracestate: str | None = None


def outbox_table(name: str = TABLE) -> Table:
    """Return the table; ``name`` may be ``schema.table``."""
    schema, _, table = name.rpartition(".")
    return Table(
        table,
        MetaData(),
        Column("id", String(255), nullable=False, unique=True),
        Column("aggregatetype", String(255), nullable=False),
        Column("aggregateid", String(255), nullable=False),
        Column("type", String(255), nullable=False),
        Column("payload", Text, nullable=False),
        Column("source", String(255)),
        Column("time", String(64)),
        Column("follows", String(255)),
        Column("division", String(12)),
        Column(PARENT, String(64)),
        Column(STATE, String(MAX_STATE)),
        Column("position", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True),
        Column("state", String(8), nullable=False, server_default="new"),
        Column("reason", Text),
        Column("settled_at", DateTime(timezone=True)),
        Index(f"{table}_new", "state", "position"),
        schema=schema or None,
    )


def create_statement(dialect: str) -> str:
    """Return the table's statement for a database without a shipped file; raises DatabaseSettingError."""
    table = outbox_table()
    try:
        known = make_url(f"{dialect}://").get_dialect()()
    except (NoSuchModuleError, ArgumentError) as error:
        raise DatabaseSettingError(f"SQLAlchemy 不认识 (unknown dialect): {dialect}") from error
    statements = [str(CreateTable(table).compile(dialect=known))]
    statements += [str(CreateIndex(index).compile(dialect=known)) for index in table.indexes]
    return "".join(f"{one.strip()};\n" for one in statements)


class Outbox:
    """The outbox of one department, reached by an SQLAlchemy URL (``postgresql://``, ``mysql://``, …)."""

    def __init__(self, url: str, table: str, after: After, idle_s: float) -> None:
        self._database = DepartmentDatabase(url, idle_s, "relay.dsn")
        self._table = outbox_table(table)
        self._after = after

    @contextmanager
    def session(self) -> Iterator[OutboxSession]:
        """Connect; raises DatabaseUnavailableError, also from within, for whatever the database refuses."""
        with self._database.connect() as connection:
            session = OutboxSession(connection, self._table, self._after)
            session.listen()
            yield session


class OutboxSession:
    """What a relay does with the table, over one connection; every statement stands alone and may be repeated."""

    def __init__(self, connection: Connection, table: Table, after: After) -> None:
        self._connection = connection
        self._table = table
        self._after = after
        self._dialect = connection.dialect.name
        # A table made before there were such columns has none, and needs none.
        there = {column["name"] for column in inspect(connection).get_columns(table.name, table.schema)}
        self._traced = {PARENT, STATE} <= there
        driver = connection.connection.driver_connection
        self._listener = driver if isinstance(driver, psycopg.Connection) else None

    def listen(self) -> None:
        """Ask to be woken at each commit, where the database can."""
        if self._listener is not None:
            self._connection.execute(text(f"LISTEN {CHANNEL}"))

    def lock(self) -> bool:
        """Take the table's lock for as long as the session lasts, and tell whether it could be had.

        A database without such locks gives it to everybody: there the producer's fencing alone keeps relays apart.
        """
        name = f"{self._table.schema}.{self._table.name}" if self._table.schema else self._table.name
        if self._dialect == "postgresql":
            return bool(self._connection.scalar(text(_POSTGRESQL_LOCK), {"table": name}))
        if self._dialect in {"mysql", "mariadb"}:
            schema = self._table.schema or self._connection.engine.url.database
            return bool(self._connection.scalar(text(_MYSQL_LOCK), {"table": f"{schema}.{self._table.name}"}))
        return True

    def unsent(self, limit: int) -> list[OutboxRow]:
        """Return the oldest events that are neither sent nor rejected, in the order of their positions."""
        t = self._table.c
        # PostgreSQL gives jsonb as objects; the text is what every database has.
        payload = cast(t.payload, Text) if self._dialect == "postgresql" else t.payload
        wanted: list[ColumnElement[Any]] = [t.id, t.aggregateid, t.type, payload]
        wanted += [t.source, t.time, t.follows, t.division]
        wanted += [t[PARENT], t[STATE]] if self._traced else []
        query = select(*wanted).where(self._new()).order_by(t.position).limit(limit)
        return [OutboxRow(*row) for row in self._connection.execute(query)]

    def settle(self, ids: Sequence[str]) -> None:
        """Mark or delete what is on the log; ids that are settled already, or gone, are no error."""
        if not ids:
            return
        # One array for PostgreSQL: hundreds of single parameters cost more than the update itself.
        id_ = self._table.c.id
        mine = id_ == any_(bindparam(None, ids, ARRAY(String))) if self._dialect == "postgresql" else id_.in_(ids)
        if self._after == "delete":
            self._connection.execute(self._table.delete().where(mine))
        else:
            change = {"state": "sent", "settled_at": datetime.now(UTC)}
            self._connection.execute(self._table.update().where(mine, self._new()).values(change))

    def reject(self, id_: str, reason: str) -> None:
        """Mark an event as rejected, with the reason; it is sent when its department has set it to ``new`` again."""
        change = {"state": "rejected", "reason": reason[:MAX_REASON], "settled_at": datetime.now(UTC)}
        self._connection.execute(self._table.update().where(self._table.c.id == id_, self._new()).values(change))

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Wait until a commit is notified (PostgreSQL with psycopg), the time is up, or ``stop``."""
        deadline = time.monotonic() + seconds
        while not stop.is_set() and (left := min(WAIT_SLICE_S, deadline - time.monotonic())) > 0:
            if self._listener is None:
                stop.wait(left)
            elif next(self._listener.notifies(timeout=left, stop_after=1), None) is not None:
                return

    def _new(self) -> ColumnElement[bool]:
        return self._table.c.state == "new"
