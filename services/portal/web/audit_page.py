"""The audit administrator's page: what was done and seen, with filters, and as a file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from schemas.times import parse_time, shown_time
from services.identity.audit import AuditFilter
from services.identity.people import Role
from services.portal.web.site import Site
from services.portal.web.viewer import Viewing, allow
from services.runtime.errors import FieldProblem, InvalidError

PAGE = 50
CSV_CHUNK = 1000
CSV_AT_MOST = 100_000
COLUMNS = ("id", "at", "person", "roles", "address", "action", "object", "reason", "outcome", "fields", "detail")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def routes(site: Site) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get("/audit")
    def show(
        viewer: Viewing,
        person: str = "",
        action: str = "",
        object: str = "",  # noqa: A002  (the audit's own word)
        outcome: str = "",
        since: str = "",
        until: str = "",
        before: int | None = None,
    ) -> Response:
        allow(viewer, Role.AUDIT)
        given = {"person": person, "action": action, "object": object, "outcome": outcome}
        given |= {"since": since, "until": until}
        wanted = _filter(given, before)
        held = site.kept.get(("audit", wanted), lambda: site.audit.repository.search(wanted, PAGE + 1))
        rows = held.value
        kept = {name: value for name, value in given.items() if value}
        older = urlencode(kept | {"before": rows[PAGE - 1]["id"]}) if len(rows) > PAGE else None
        return site.pages.page(
            viewer,
            "audit/list.html",
            rows=rows[:PAGE],
            held=held,
            given=given,
            older=f"/audit?{older}" if older else None,
            newest=f"/audit?{urlencode(kept)}" if before is not None else None,
            csv=f"/audit.csv?{urlencode(kept)}",
        )

    @router.get("/audit.csv")
    def download(
        viewer: Viewing,
        person: str = "",
        action: str = "",
        object: str = "",  # noqa: A002
        outcome: str = "",
        since: str = "",
        until: str = "",
    ) -> Response:
        allow(viewer, Role.AUDIT)
        given = {"person": person, "action": action, "object": object, "outcome": outcome}
        given |= {"since": since, "until": until}
        wanted = _filter(given, None)
        site.audit.record(viewer, "audit.download", "audit", filters={n: v for n, v in given.items() if v})
        headers = {"Content-Disposition": 'attachment; filename="audit.csv"'}
        return StreamingResponse(_lines(site, wanted), media_type="text/csv; charset=utf-8", headers=headers)

    return router


def _filter(given: dict[str, str], before: int | None) -> AuditFilter:
    """Return what is looked for; days are Shanghai's, and the last one is meant whole."""
    times = {}
    for name in ("since", "until"):
        try:
            times[name] = parse_time(given[name])[0] if given[name] else None
        except ValueError as error:
            raise InvalidError([FieldProblem(f"/{name}", str(error))]) from error
    until = times["until"]
    if until is not None and "T" not in given["until"]:
        until += timedelta(days=1)
    texts = {name: given[name].strip() or None for name in ("person", "action", "object", "outcome")}
    return AuditFilter(since=times["since"], until=until, before=before, **texts)


def _lines(site: Site, wanted: AuditFilter) -> Iterator[str]:
    """Give the file piece by piece, newest first; Excel reads the mark at its start as UTF-8."""
    yield "\ufeff" + ",".join(COLUMNS) + "\r\n"
    before, given = wanted.before, 0
    while given < CSV_AT_MOST:
        rows = site.audit.repository.search(replace(wanted, before=before), CSV_CHUNK)
        output = io.StringIO()
        csv.writer(output).writerows([_cell(row[name]) for name in COLUMNS] for row in rows)
        yield output.getvalue()
        given += len(rows)
        if len(rows) < CSV_CHUNK:
            return
        before = rows[-1]["id"]


def _cell(value: Any) -> str:  # noqa: ANN401  (any column)
    """Return a cell; what a spreadsheet would take for a formula is made text."""
    if isinstance(value, list):
        text = " ".join(value)
    elif isinstance(value, dict):
        text = json.dumps(value, ensure_ascii=False) if value else ""
    else:
        text = shown_time(value.isoformat()) if hasattr(value, "isoformat") else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
