"""What a poller remembers of its rows, on the local disk: a view of its journal, so that memory stays bounded.

It is written after the transaction that it tells of has committed; what a crash left out is in the journal.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString, Self

import orjson

from producers.poller.journal import REJECTS, ROWS, Changes, Journal, Json
from services.runtime.errors import UnavailableError

SCHEMA = Path(__file__).parent / "sql" / "memory.sql"
_FACT: LiteralString = "SELECT value FROM fact WHERE name = ?"
_SET_FACT: LiteralString = "INSERT OR REPLACE INTO fact (name, value) VALUES (?, ?)"
_SET_STATE: LiteralString = (
    "INSERT INTO known (key, state) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET state = excluded.state"
)
_STATES: LiteralString = "SELECT key, state FROM known WHERE key IN (SELECT value FROM json_each(?))"
_SEEN: LiteralString = "UPDATE known SET pass = ? WHERE key IN (SELECT value FROM json_each(?))"
_UNSEEN: LiteralString = "FROM known WHERE pass < ? AND json_extract(state, '$.gone') IS NULL"
_SET_REJECT: LiteralString = "INSERT OR REPLACE INTO reject (key, record) VALUES (?, ?)"
_DROP_REJECT: LiteralString = "DELETE FROM reject WHERE key = ?"
_REJECTS_OF: LiteralString = "SELECT key, record FROM reject WHERE key IN (SELECT value FROM json_each(?))"
_REJECTS: LiteralString = "SELECT key, record FROM reject ORDER BY key"
_COUNT_REJECTS: LiteralString = "SELECT count(*) FROM reject"
_CLEAR: LiteralString = "DELETE FROM known; DELETE FROM reject; DELETE FROM fact;"
_PROGRESS = "progress"
_OFFSETS = "offsets"
_ORIGIN = "origin"
_ROUND = "round"


class TakenOverError(UnavailableError):
    """Another poller of this name has gone on meanwhile."""


class Memory:
    """The store of one poller. Only the one that has the duty may write; an older one that wakes up is refused."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._store = sqlite3.connect(path, isolation_level=None)
        self._store.executescript(SCHEMA.read_text(encoding="utf-8"))
        self._offsets: dict[int, int] = {ROWS: 0, REJECTS: 0}
        self.progress: Json = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()

    def catch_up(self, journal: Journal) -> None:
        """Take in what the journal says beyond what is known; raises UnavailableError."""
        origin = journal.origin()
        if self._fact(_ORIGIN) != origin:
            self._store.executescript(_CLEAR)
            self._set_fact(_ORIGIN, origin)
        held = self._fact(_OFFSETS) or {}
        self._offsets = {number: int(held.get(str(number), 0)) for number in (ROWS, REJECTS)}
        self.progress = self._fact(_PROGRESS) or {}
        for changes, offsets in journal.read(self._offsets):
            self.apply(changes, offsets)

    def apply(self, changes: Changes, offsets: Mapping[int, int]) -> None:
        """Take in what a committed transaction has changed; raises TakenOverError."""
        with self._transaction():
            if (self._fact(_OFFSETS) or {}) != _named(self._offsets) and self._fact(_OFFSETS) is not None:
                raise TakenOverError
            self._store.executemany(_SET_STATE, ((k, orjson.dumps(s).decode()) for k, s in changes.states.items()))
            for key, record in changes.rejects.items():
                if record is None:
                    self._store.execute(_DROP_REJECT, (key,))
                else:
                    self._store.execute(_SET_REJECT, (key, orjson.dumps(record)))
            if changes.progress is not None:
                self._set_fact(_PROGRESS, changes.progress)
            moved = self._offsets | dict(offsets)
            self._set_fact(_OFFSETS, _named(moved))
        self._offsets = moved
        self.progress = changes.progress or self.progress

    def states(self, keys: Iterable[str]) -> dict[str, Json]:
        """Return what is known of these rows; those never told of are left out."""
        return self._loaded(_STATES, keys)

    def rejects_of(self, keys: Iterable[str]) -> dict[str, Json]:
        """Return which of these rows are rejected, and why."""
        return self._loaded(_REJECTS_OF, keys)

    def rejects(self) -> dict[str, Json]:
        """Return all rows that are rejected."""
        return {key: orjson.loads(record) for key, record in self._store.execute(_REJECTS)}

    def count_rejects(self) -> int:
        """Return how many rows are rejected."""
        return int(self._store.execute(_COUNT_REJECTS).fetchone()[0])

    def begin_pass(self) -> int:
        """Return the number of a new pass over all rows."""
        number = int(self._fact(_ROUND) or 0) + 1
        self._set_fact(_ROUND, number)
        return number

    def see(self, number: int, keys: Iterable[str]) -> None:
        """Remember that a pass has met these rows."""
        self._store.execute(_SEEN, (number, _array(keys)))

    def count_unseen(self, number: int) -> int:
        """Return how many rows a finished pass has not met, those whose end was told before left out."""
        return int(self._store.execute(f"SELECT count(*) {_UNSEEN}", (number,)).fetchone()[0])

    def unseen(self, number: int, limit: int) -> dict[str, Json]:
        """Return some of these rows."""
        found = self._store.execute(f"SELECT key, state {_UNSEEN} LIMIT ?", (number, limit))
        return {key: orjson.loads(state) for key, state in found}

    def _loaded(self, query: LiteralString, keys: Iterable[str]) -> dict[str, Json]:
        return {key: orjson.loads(value) for key, value in self._store.execute(query, (_array(keys),))}

    def _fact(self, name: str) -> Any:  # noqa: ANN401  (JSON)
        row = self._store.execute(_FACT, (name,)).fetchone()
        return None if row is None else orjson.loads(row[0])

    def _set_fact(self, name: str, value: object) -> None:
        self._store.execute(_SET_FACT, (name, orjson.dumps(value)))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._store.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._store.execute("ROLLBACK")
            raise
        self._store.execute("COMMIT")


def _named(offsets: Mapping[int, int]) -> dict[str, int]:
    return {str(number): offset for number, offset in sorted(offsets.items())}


def _array(keys: Iterable[str] | Sequence[str]) -> str:
    return orjson.dumps(list(keys)).decode()
