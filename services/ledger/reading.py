"""What became of an event: who was entitled, who has it since when, who said what; searches, and overviews."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool

from services.ledger.repository import FIRST_MONTH
from services.ledger.searching import Criteria, Cursor, Page, Scope, Window, narrowed, windows
from services.ledger.story import agency_part, completeness, moments, told_to
from services.runtime.clock import Clock
from services.runtime.database import transaction
from services.runtime.errors import DatabaseUnavailableError, FieldProblem, InvalidError

_SQL = Path(__file__).parent / "sql"
SEARCH_MS = 3000
"""How long a search may take, over all the stretches of time that it looks through."""
LIST_MS = 10_000
FOLLOW_UP_WINDOW = timedelta(days=92)
"""How far back follow-ups are looked for unless somebody says since when: a quarter."""
MOST_EVENTS = 200
"""The longest page."""
MOST_HOURS = 3 * 24
"""The longest overview: a week of ten million events in three years takes longer than a page may."""
EPOCH, FIRST = datetime(1970, 1, 1, tzinfo=UTC), datetime.combine(FIRST_MONTH, clock_time(), UTC)
_PLACE = ("at", "topic", "partition", "offset", "event", "source", "subject")


class SearchTooWideError(InvalidError):
    """The search did not end in time, and not even a part of an answer can be given."""

    def __init__(self) -> None:
        said = (
            "查询范围过大，限时内未完成；请加上时间范围、编号或类型 (too wide; narrow it by time, a number or a type)"
        )
        super().__init__([FieldProblem("/from", said)])


@dataclass(frozen=True, slots=True)
class Overview:
    """What the last hours came to, by whole hours from ``since`` until ``until``.

    ``flows`` has an item for each publisher and agency: ``entitled``, ``delivered``, ``accepted``, ``rejected``,
    ``parked``; ``publishers`` one for each publisher: the same of all agencies, and ``published``, ``routed``,
    ``duplicate``, ``conflict``, ``deadletter``; ``hours`` the same words for each hour. Receipts are counted as they
    stand on the log.
    """

    since: datetime
    until: datetime
    flows: Sequence[Mapping[str, Any]]
    publishers: Sequence[Mapping[str, Any]]
    hours: Sequence[Mapping[str, Any]]


class LedgerReader:
    """Reads the ledger over the process's pool. Every reader says by a scope what may be seen.

    All raise DatabaseUnavailableError; and a search, where not even its first step ends in time, SearchTooWideError.
    """

    def __init__(self, pool: ConnectionPool, clock: Clock, search_ms: int = SEARCH_MS) -> None:
        self._pool = pool
        self._clock = clock
        self._search_ms = search_ms

    def search(
        self,
        scope: Scope,
        criteria: Criteria,
        limit: int = 50,
        before: str | None = None,
        until_s: float | None = None,
    ) -> Page:
        """Return the newest events that meet all criteria, at most ``limit`` (and MOST_EVENTS); see :class:`Page`.

        It ends by ``until_s`` (monotonic) too, where several searches share their time.
        Raises ForbiddenError for another's events, and InvalidError for a cursor that is none.
        """
        limit = max(1, min(limit, MOST_EVENTS))
        values = narrowed(scope, criteria)
        query = "search_named" if criteria.named else "search_agency" if values["agency"] else "search_events"
        query = "search_number" if criteria.number else query
        found: list[DictRow] = []
        looked_to: datetime | None = None
        own = time.monotonic() + self._search_ms / 1000
        deadline = own if until_s is None else min(own, until_s)
        for window in windows(self._clock.now(), criteria, Cursor.from_text(before) if before else None):
            wanted = values | _bounds(window) | {"limit": limit + 1 - len(found)}
            try:
                found += self._rows(query, wanted, deadline)
            except SearchTooWideError:
                if looked_to is None:
                    raise
                return self._page(scope, found, Page([], Cursor(looked_to).to_text(), "time", looked_to))
            looked_to = window.low
            if len(found) > limit:
                at = _place(found[limit - 1])
                return self._page(scope, found[:limit], Page([], at.to_text(), "limit", at.at))
        return self._page(scope, found, Page([], searched_since=criteria.since))

    def timeline(self, scope: Scope, event: str, source: str | None = None) -> list[dict[str, Any]]:
        """Return the events of this id (one for each source and business key), each with what became of it.

        An agency sees its own part of those that it was entitled to, a publisher those of its sources.
        """
        whose = narrowed(scope, Criteria(event=event, source=source))
        with self._reading(self._search_ms) as cursor:
            found = cursor.execute(_read("trace_events"), {"event": event, "sources": _sources(whose)}).fetchall()
            events: dict[tuple[str, str], list[DictRow]] = {}
            for row in found:
                events.setdefault((row["source"], row["subject"]), []).append(row)
            told = [_story(cursor, scope, event, rows) for rows in events.values()]
        return [one for one in told if scope.agency is None or one["agencies"]]

    def overview(self, scope: Scope, hours: int = 24) -> Overview:
        """Return what came in and went out in the last hours (at most MOST_HOURS), the present one included.

        What can't be counted in time is a DatabaseUnavailableError: it is not for the reader to ask less.
        """
        until = self._clock.now().replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        since = until - timedelta(hours=max(1, min(hours, MOST_HOURS)))
        sources = _sources(narrowed(scope, Criteria()))
        values = {"since": since, "until": until, "agency": scope.agency, "sources": sources}
        deadline = time.monotonic() + self._search_ms / 1000
        try:
            found, hourly = self._rows("flows", values, deadline), self._rows("hours", values, deadline)
        except SearchTooWideError as error:
            raise DatabaseUnavailableError("PostgreSQL 没有及时数完 (did not count in time)") from error
        flows = _pivot(found, "source", "agency")
        return Overview(
            since,
            until,
            [one for one in flows if one["agency"]],
            [{name: value for name, value in one.items() if name != "agency"} for one in flows if not one["agency"]],
            _pivot(hourly, "hour"),
        )

    def follow_ups(
        self,
        types: Collection[str],
        *,
        open_only: bool,
        since: datetime,
        until: datetime | None = None,
        limit_ms: int = LIST_MS,
    ) -> list[DictRow]:
        """Return each routed event of these types, or that follows another, with each agency that must have it.

        ``state`` is the newest word of the agency, else our newest receipt: ``accepted``, ``rejected``, ``delivered``,
        ``parked``, or ``underway``. Open is what was not accepted. One that nobody must have is ``nobody``'s. ``since``
        leaves out what came on the log earlier, ``until`` what came then or later. Raises SearchTooWideError after
        ``limit_ms``.
        """
        values = {"types": list(types), "open": open_only, "since": since, "until": until}
        with self._reading(limit_ms) as cursor:
            # Planned for these very values: with a moment, months before it are left out.
            return cursor.execute(_read("follow_ups"), values, prepare=False).fetchall()

    def months(self, before: datetime) -> list[tuple[datetime, datetime]]:
        """Return each month of the ledger that ended by then, as it is parted, and the time before the first."""
        with self._reading(LIST_MS) as cursor:
            found = cursor.execute(_read("months"), (before,)).fetchall()
        ends = sorted({one["ended"].astimezone(UTC) for one in found})
        return [(EPOCH, FIRST), *(((end - timedelta(days=1)).replace(day=1), end) for end in ends)]

    def _page(self, scope: Scope, found: Sequence[DictRow], page: Page) -> Page:
        """Return the page with these events, each with what became of it."""
        if not found:
            return page
        names = ("logged_at", "topic", "partition", "offset", "event_id", "source", "subject")
        values: dict[str, Any] = {f"{a}s": [row[b] for row in found] for a, b in zip(_PLACE, names, strict=True)}
        values |= {"oldest": found[-1]["logged_at"], "newest": found[0]["logged_at"], "agency": scope.agency}
        standing = self._rows("standing", values, time.monotonic() + self._search_ms / 1000)
        events = [
            {**row, "published_at": row["recorded_at"] or row["logged_at"], **became}
            for row, became in zip(found, standing, strict=True)
        ]
        return Page(events, page.before, page.cut, page.searched_since)

    def _rows(self, query: str, values: Mapping[str, Any], deadline: float) -> list[DictRow]:
        left_ms = int(1000 * (deadline - time.monotonic()))
        if left_ms <= 0:
            raise SearchTooWideError
        with self._reading(left_ms) as cursor:
            # Planned for these very values: months that don't matter are left out, and criteria that aren't given.
            return cursor.execute(_read(query), values, prepare=False).fetchall()

    @contextmanager
    def _reading(self, limit_ms: int) -> Iterator[psycopg.Cursor[DictRow]]:
        with transaction(self._pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(_read("limit_time"), (f"{limit_ms}ms",))
            try:
                yield cursor
            except psycopg.errors.QueryCanceled as error:
                raise SearchTooWideError from error


def _story(cursor: psycopg.Cursor[DictRow], scope: Scope, event: str, rows: Sequence[DictRow]) -> dict[str, Any]:
    # A repetition has a row of its own; the one that was routed tells the story.
    first = next((row for row in rows if row["verdict"] == "routed"), rows[0])
    logged = [row["logged_at"] for row in rows]
    values = {"event": event, "source": first["source"], "subject": first["subject"], "agency": scope.agency}
    bounds = {"oldest": min(logged), "newest": max(logged)}
    entitled = cursor.execute(_read("trace_entitlements"), values | bounds).fetchall()
    receipts = told_to(scope, cursor.execute(_read("trace_receipts"), values).fetchall())
    agencies = [agency_part(row, [r for r in receipts if r["agency"] == row["agency"]]) for row in entitled]
    told = {name: first[name] for name in first if name != "event_id"}
    repeats = sum(row["verdict"] == "duplicate" for row in rows)
    story = {"id": event, **told, "repeats": repeats, "agencies": agencies}
    return story | {"completeness": completeness(agencies), "moments": moments(first, agencies)}


def _bounds(window: Window) -> dict[str, Any]:
    high = window.high
    return {
        "low": window.low or "-infinity",
        "high": high.at if high else "infinity",
        "topic": high.topic if high else "",
        "partition": high.partition if high else 0,
        "offset": high.offset if high else 0,
    }


def _sources(whose: Mapping[str, Any]) -> list[str] | None:
    found: list[str] | None = whose["sources"] if whose["source"] is None else [whose["source"]]
    return found


def _place(row: Mapping[str, Any]) -> Cursor:
    return Cursor(row["logged_at"], row["topic"], row["partition"], row["offset"])


def _pivot(rows: Sequence[Mapping[str, Any]], *keys: str) -> list[dict[str, Any]]:
    """Return one item for each combination of keys, with the number of each ``what``."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        item = found.setdefault(tuple(row[key] for key in keys), {key: row[key] for key in keys})
        item[row["what"]] = row["number"]
    return list(found.values())


@cache
def _read(name: str) -> bytes:
    return (_SQL / f"{name}.sql").read_bytes()
