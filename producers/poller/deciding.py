"""What becomes of the rows of one page: pure, given what is known of them and a clock's time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import orjson

from producers.poller.journal import Changes, Json
from producers.poller.mapper import Mapped, Mapper, event_id
from producers.poller.mapping import FollowUp, TableMapping
from producers.poller.table import Row, TableMismatchError
from producers.poller.values import pack, plain, shortened, usable
from producers.publishing import Prepared
from schemas.topics import EVENT_MAX_BYTES
from services.runtime.errors import FieldProblem, InvalidError

UNMAPPED = "此行在发布之后又有改动，映射里没有 changed (changed after its event, and the mapping has no `changed`)"
NO_CURSOR = "游标列为空，水位找不到它；请补上，或在 query 里用 COALESCE (the cursor is null)"
NO_OVERLAP = (
    "游标列 {column} 是文字，没法往回 overlap：是时间就写 cursor.format；不是就写 overlap: 0，"
    "那时晚提交的行只靠 compare_s (a cursor of text needs a format, or `overlap: 0`)"
)
BAD_CURSOR = "游标列不是可用的时间，请更正 (the cursor can't be read as a time)"

NO_DATA = "此行在映射写上 deleted 之前就不在了，没有记下数据 (it was gone before the mapping had `deleted`)"


class Preparing(Protocol):
    """Checks and encodes events (:class:`producers.publishing.Publishing`)."""

    def prepare(self, attributes: Mapping[str, Any], data: object) -> Prepared:
        """Return the event ready to send; raises InvalidError or RegistryUnavailableError."""
        ...

    def published(self, event: Prepared) -> None:
        """Note that an event stands on the log."""
        ...


@dataclass(slots=True)
class Decided:
    """The events to send, what changes with them, and how many rows came to what."""

    events: list[Prepared] = field(default_factory=list)
    changes: Changes = field(default_factory=Changes)
    outcomes: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a page's rows before it: their states and those that are rejected."""

    states: Mapping[str, Json]
    rejects: Mapping[str, Json]


def key_text(row: Row) -> str:
    """Return a row's key as one text: the value, or the JSON list of several."""
    values = [plain(value) for value in row.key]
    return str(values[0]) if len(values) == 1 else orjson.dumps(values).decode()


class Decider:
    """Decides by one mapping."""

    def __init__(self, mapping: TableMapping, mapper: Mapper, publishing: Preparing) -> None:
        self._mapping = mapping
        self._mapper = mapper
        self._publishing = publishing

    def page(self, rows: Sequence[Row], known: Known, now: datetime) -> Decided:
        """Decide for every row; raises TableMismatchError, RegistryUnavailableError."""
        cursor = self._mapping.cursor
        if cursor.format is None and cursor.overlap and any(type(row.cursor) is str for row in rows):
            raise TableMismatchError(NO_OVERLAP.format(column=cursor.column))
        decided = Decided()
        met: set[str] = set()
        for row in rows:
            key = key_text(row)
            if key in met:
                raise TableMismatchError(f"key 不唯一，查询给出两行 (the key is not unique, two rows have it): {key}")
            met.add(key)
            try:
                outcome = self._row(key, row, known.states.get(key), now, decided)
            except InvalidError as error:
                self._reject(key, row, error.problems, known, now, decided)
                outcome = "rejected"
            else:
                if key in known.rejects:
                    decided.changes.rejects[key] = None
            decided.outcomes[outcome] += 1
        return decided

    def _row(self, key: str, row: Row, state: Json | None, now: datetime, decided: Decided) -> str:
        if not usable(row.cursor, self._mapping.cursor.format):
            detail = NO_CURSOR if row.cursor is None else f"{BAD_CURSOR}: {row.cursor}"
            raise InvalidError([FieldProblem(f"/{self._mapping.cursor.column}", detail)])
        mapped = self._mapper.row(row.columns)
        digest = mapped.digest()
        if state is None or state.get("gone"):
            self._publish(key, mapped, digest, mapped, state, decided)
            return "new"
        if state["digest"] == digest:
            if self._mapping.deleted is not None and "data" not in state:
                # Told of before the mapping asked for deletions: from now on its end can be told, too.
                decided.changes.states[key] = {**state, "data": mapped.data}
            return "unchanged"
        changed = self._mapping.changed
        if changed == "ignore":
            return "ignored"
        if not isinstance(changed, FollowUp):
            raise InvalidError([FieldProblem("/", UNMAPPED)])
        event = self._mapper.follow_up(changed, mapped.data, row.columns, now)
        self._publish(key, event, digest, mapped, state, decided)
        return "changed"

    def published(self, event: Prepared) -> None:
        """Note that an event stands on the log."""
        self._publishing.published(event)

    def gone(self, rows: Mapping[str, Json], known: Known, now: datetime) -> Decided:
        """Decide for rows that are there no more."""
        decided = Decided()
        for key, state in rows.items():
            try:
                prepared = self._end(key, state, now)
            except InvalidError as error:
                self._reject(key, Row((), None, {}), error.problems, known, now, decided)
                decided.outcomes["rejected"] += 1
                continue
            decided.events.append(prepared)
            decided.changes.states[key] = {"gone": True, "number": state["number"] + 1, "id": prepared.envelope.id}
            if key in known.rejects:
                decided.changes.rejects[key] = None
            decided.outcomes["deleted"] += 1
        return decided

    def _end(self, key: str, state: Json, now: datetime) -> Prepared:
        if self._mapping.deleted is None or "data" not in state:
            raise InvalidError([FieldProblem("/", NO_DATA)])
        event = self._mapper.follow_up(self._mapping.deleted, state["data"], {}, now)
        return self._prepare(key, event, state["digest"], state)

    def _publish(
        self, key: str, event: Mapped, digest: str, mapped: Mapped, state: Json | None, decided: Decided
    ) -> None:
        prepared = self._prepare(key, event, digest, state)
        number = state["number"] if state else 0
        held: Json = {"digest": digest, "number": number + 1, "id": prepared.envelope.id}
        if self._mapping.deleted is not None:
            held["data"] = mapped.data
            if len(orjson.dumps(held)) > EVENT_MAX_BYTES:
                raise InvalidError([FieldProblem("/data", f"JSON 超过 {EVENT_MAX_BYTES} 字节，记不下 (too large)")])
        decided.events.append(prepared)
        decided.changes.states[key] = held

    def _prepare(self, key: str, event: Mapped, digest: str, state: Json | None) -> Prepared:
        number = state["number"] if state else 0
        identity = event_id(event.type, self._mapping.source, key, digest, number)
        attributes = {"id": identity, "source": self._mapping.source, "type": event.type, **event.attributes}
        if state is not None and not state.get("gone"):
            attributes["follows"] = state["id"]
        return self._publishing.prepare(attributes, event.data)

    def _reject(
        self,
        key: str,
        row: Row,
        problems: Sequence[FieldProblem],
        known: Known,
        now: datetime,
        decided: Decided,
    ) -> None:
        record: Json = {
            "key": [pack(value) for value in row.key],
            "type": self._mapping.type,
            "problems": [self._problem(problem) for problem in problems],
            "row": {name: shortened(value) for name, value in row.columns.items()},
        }
        before = known.rejects.get(key)
        if before is None or {**before, "at": None} != {**record, "at": None}:
            decided.changes.rejects[key] = {**record, "at": now.isoformat()}

    def _problem(self, problem: FieldProblem) -> Json:
        column = self._mapper.column_of(problem.pointer) if problem.pointer.startswith("/data/") else None
        return {"field": problem.pointer, "column": column, "problem": problem.detail}
