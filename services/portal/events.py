"""What became of events, for those who may know: the administrator all, a department its own, an agency its part."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, HTTPException, Query

from schemas.times import parse_time
from services.identity.access import AGENCY_KEY_START, AccessRepository
from services.identity.repository import KEY_START
from services.ledger.reading import Criteria, LedgerReader
from services.runtime.errors import FieldProblem, ForbiddenError, InvalidError, NotFoundError


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose events one may see: a department's source, an agency's part, or (both None) all."""

    source: str | None = None
    agency: str | None = None


def scopes(access: AccessRepository, admin_key: str) -> Callable[[str], Scope]:
    """Return how a bearer key tells the scope; it raises 401 for no key of ours."""

    def scope(authorization: Annotated[str, Header()] = "") -> Scope:
        if hmac.compare_digest(authorization.encode(), f"Bearer {admin_key}".encode()):
            return Scope()
        kind, _, key = authorization.partition(" ")
        if kind.lower() == "bearer" and key.startswith(KEY_START) and (source := access.source_of(key)):
            return Scope(source=source)
        if kind.lower() == "bearer" and key.startswith(AGENCY_KEY_START) and (agency := access.agency_of(key)):
            return Scope(agency=agency)
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
        event: str | None = None,
        subject: str | None = None,
        identifier: str | None = None,
        source: str | None = None,
        type: str | None = None,  # noqa: A002  (CloudEvents' name)
        agency: str | None = None,
        since: Annotated[str | None, Query(alias="from")] = None,
        until: Annotated[str | None, Query(alias="to")] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> dict[str, Any]:
        source, agency = _within(scope, source, agency)
        criteria = Criteria(
            event, subject, identifier, source, type, agency, _time(since, "/from"), _time(until, "/to")
        )
        found = reader.search(criteria, limit)
        return {"events": found, "more": len(found) == limit}

    # An id may hold anything, slashes too.
    @router.get("/{event:path}")
    def trace(event: str, source: str | None = None, scope: Scope = scoped) -> dict[str, Any]:
        source, agency = _within(scope, source, None)
        found = reader.trace(event, source, agency)
        if not found:
            raise NotFoundError(f"台账中没有可见的事件 {event} (no such event for you to see)")
        return {"events": found}

    return router


def _within(scope: Scope, source: str | None, agency: str | None) -> tuple[str | None, str | None]:
    """Return source and agency to look for; raises ForbiddenError for another's."""
    for own, asked in ((scope.source, source), (scope.agency, agency)):
        if own is not None and asked not in {None, own}:
            raise ForbiddenError(f"只能查自己的事件 (your own events only): {own}")
    if scope.source is not None and agency is not None:
        raise ForbiddenError("部门按事件查询，不按接收单位 (a department asks by its events)")
    return scope.source or source, scope.agency or agency


def _time(text: str | None, pointer: str) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_time(text)[0]
    except ValueError as error:
        raise InvalidError([FieldProblem(pointer, str(error))]) from error
