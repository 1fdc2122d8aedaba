"""The query of a mapping, page by page. It only reads: SELECT is the one right that it needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Select, and_, column, literal, literal_column, or_, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import NullType

from producers.department.database import DepartmentDatabase, lock_name
from producers.poller.mapping import TableMapping
from producers.poller.values import plain
from services.runtime.errors import UnavailableError

KEYS_AT_ONCE = 100


class TableMismatchError(UnavailableError):
    """The query does not give what the mapping names; it is tried again, since either may be mended."""


class Row(NamedTuple):
    """A row: its key and cursor as the driver gives them, and its columns in lower case as plain JSON."""

    key: tuple[Any, ...]
    cursor: Any
    columns: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Span:
    """Which rows: not before ``since``, and only behind the row ``after`` in the order of cursor and key."""

    since: Any = None
    after: Row | None = None


class DepartmentTable:
    """The rows of one mapping's query."""

    def __init__(self, url: str, mapping: TableMapping, idle_s: float) -> None:
        self._database = DepartmentDatabase(url, idle_s, "url")
        self._mapping = mapping

    @contextmanager
    def session(self) -> Iterator[TableSession]:
        """Connect; raises DatabaseUnavailableError, also from within, for whatever the database refuses."""
        with self._database.connect() as connection:
            yield TableSession(connection, self._mapping)


class TableSession:
    """Reads rows over one connection; every page is a statement of its own, and no transaction is held."""

    def __init__(self, connection: Connection, mapping: TableMapping) -> None:
        self._connection = connection
        self._mapping = mapping
        names = [*mapping.key, mapping.cursor.column]
        # A colon is text here and never a parameter; a comment at the end must not swallow what follows.
        query = mapping.query.strip().rstrip(";").replace(":", r"\:") + "\n"
        rows = text(query).columns(*(column(name) for name in dict.fromkeys(names))).subquery("hongyan")
        self._keys = [rows.c[name] for name in mapping.key]
        self._cursor = rows.c[mapping.cursor.column]
        self._all: Select[Any] = select(literal_column("hongyan.*")).select_from(rows)

    def lock(self) -> bool:
        """Take the lock of the mapping's name for as long as the session lasts, and tell whether it could be had."""
        return lock_name(self._connection, f"hongyan.poller.{self._mapping.name}")

    def page(self, span: Span, limit: int) -> list[Row]:
        """Return the next rows in the order of cursor and key."""
        wanted = []
        if self._mapping.cursor.start is not None:
            wanted.append(self._cursor >= _bound(self._mapping.cursor.start))
        if span.after is not None:
            wanted.append(self._behind(span.after))
        elif span.since is not None:
            wanted.append(self._cursor >= _bound(span.since))
        else:
            wanted.append(self._cursor.is_not(None))
        return self._rows(self._all.where(*wanted).order_by(self._cursor, *self._keys).limit(limit))

    def without_cursor(self, limit: int, after: Row | None = None) -> list[Row]:
        """Return the next rows in the order of the key whose cursor is null: no watermark would ever find them."""
        wanted: list[ColumnElement[bool]] = [self._cursor.is_(None)]
        if after is not None:
            wanted.append(_beyond(zip(self._keys, after.key, strict=True)))
        return self._rows(self._all.where(*wanted).order_by(*self._keys).limit(limit))

    def with_keys(self, keys: Sequence[tuple[Any, ...]]) -> list[Row]:
        """Return the rows that have these keys, at most :data:`KEYS_AT_ONCE` of them."""
        one_of = [and_(*(k == _bound(v) for k, v in zip(self._keys, key, strict=True))) for key in keys]
        return self._rows(self._all.where(or_(*one_of)))

    def _behind(self, row: Row) -> ColumnElement[bool]:
        behind = _beyond([(self._cursor, row.cursor), *zip(self._keys, row.key, strict=True)])
        # The plain bound first: it is what an index on the cursor can use.
        return and_(self._cursor >= _bound(row.cursor), behind)

    def _rows(self, statement: Select[Any]) -> list[Row]:
        found = self._connection.execute(statement)
        names = list(map(str.lower, found.keys()))
        missing = [name for name in self._mapping.columns() if name not in names]
        if missing:
            raise TableMismatchError(f"查询结果里没有列 (the query gives no column): {', '.join(missing)}")
        keys = [names.index(name.lower()) for name in self._mapping.key]
        cursor = names.index(self._mapping.cursor.column.lower())
        used = [(name, names.index(name)) for name in self._mapping.columns()]
        return [
            Row(tuple(values[k] for k in keys), values[cursor], {name: plain(values[at]) for name, at in used})
            for values in found
        ]


def _beyond(parts: Iterable[tuple[ColumnElement[Any], Any]]) -> ColumnElement[bool]:
    """Compare columns with values, as a tuple: written out, since not every database compares tuples."""
    *first, (last, value) = parts
    beyond: ColumnElement[bool] = last > _bound(value)
    for part, bound in reversed(first):
        beyond = or_(part > _bound(bound), and_(part == _bound(bound), beyond))
    return beyond


def _bound(value: Any) -> ColumnElement[Any]:  # noqa: ANN401
    """Bind a value without a cast of SQLAlchemy's: the database knows its column's type better."""
    return literal(value, NullType())
