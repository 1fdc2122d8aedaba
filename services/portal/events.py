"""What became of events, for those who may know: the administrator all, a department its own, an agency its part."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, HTTPException, Query

from schemas.times import asked_time
from services.identity.access import AGENCY_KEY_START, AccessRepository
from services.identity.repository import KEY_START
from services.ledger.reading import MOST_EVENTS, LedgerReader
from services.ledger.searching import Criteria, Scope
from services.runtime.errors import FieldProblem, InvalidError, NotFoundError

WHOLE = "须完整 (the whole of it)"
WHOLE_NUMBER = (
    "证书号或信用代码，须完整，不能只写开头 (a whole certificate number or organisation code, no part of one)"
)


def scopes(access: AccessRepository, admin_key: str) -> Callable[[str], Scope]:
    """Return how a bearer key tells the scope; it raises 401 for no key of ours."""

    def scope(authorization: Annotated[str, Header()] = "") -> Scope:
        if hmac.compare_digest(authorization.encode(), f"Bearer {admin_key}".encode()):
            return Scope.administrator()
        kind, _, key = authorization.partition(" ")
        if kind.lower() == "bearer" and key.startswith(KEY_START) and (source := access.source_of(key)):
            return Scope.of_publisher([source])
        if kind.lower() == "bearer" and key.startswith(AGENCY_KEY_START) and (agency := access.agency_of(key)):
            return Scope.of_agency(agency)
        detail = "需要部门、接收单位或管理密钥：Authorization: Bearer … (a key is needed)"
        raise HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})

    return scope


def event_routes(reader: LedgerReader, scope_of: Callable[[str], Scope]) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/events")
    scoped = Depends(scope_of)

    @router.get("")
    def search(
        scope: Scope = scoped,
        event: Annotated[str | None, Query(description=WHOLE)] = None,
        subject: Annotated[str | None, Query(description=WHOLE)] = None,
        identifier: Annotated[str | None, Query(description=WHOLE_NUMBER)] = None,
        source: str | None = None,
        type: str | None = None,  # noqa: A002  (CloudEvents' name)
        agency: str | None = None,
        since: Annotated[str | None, Query(alias="from")] = None,
        until: Annotated[str | None, Query(alias="to")] = None,
        limit: Annotated[int, Query(ge=1, le=MOST_EVENTS)] = 50,
        before: str | None = None,
    ) -> dict[str, Any]:
        criteria = Criteria(
            event, subject, identifier, source, type, agency, _time(since, "/from"), _time(until, "/to")
        )
        page = reader.search(scope, criteria, limit, before)
        return {
            "events": plain(page.events),
            "more": not page.complete,
            "before": page.before,
            "cut": page.cut,
            "searched_since": plain(page.searched_since),
            "note": page.note,
        }

    # An id may hold anything, slashes too.
    @router.get("/{event:path}")
    def trace(event: str, source: str | None = None, scope: Scope = scoped) -> dict[str, Any]:
        found = reader.timeline(scope, event, source)
        if not found:
            raise NotFoundError(f"台账中没有可见的事件 {event} (no such event for you to see)")
        return {"events": plain(found)}

    return router


def plain(value: Any) -> Any:  # noqa: ANN401  (JSON of any shape)
    """Return what the ledger answers as JSON: times as text."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {name: plain(held) for name, held in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def _time(text: str | None, pointer: str) -> datetime | None:
    if text is None:
        return None
    try:
        return asked_time(text)
    except ValueError as error:
        raise InvalidError([FieldProblem(pointer, str(error))]) from error
