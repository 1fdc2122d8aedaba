"""The composition of the pages: what they share, and how they are put on the portal's application."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, RedirectResponse
from psycopg_pool import ConnectionPool
from starlette.exceptions import HTTPException
from starlette.routing import Match

from services.identity.audit import AuditRepository
from services.identity.people import PersonRepository
from services.identity.portal_sessions import SessionRepository
from services.identity.sign_ins import SignInRepository
from services.portal.web.audit import Audit
from services.portal.web.cookies import Cookies
from services.portal.web.entrance import Entrance
from services.portal.web.headers import FOR_EVER, SafeHeaders, site_headers
from services.portal.web.navigation import NAV
from services.portal.web.outages import Outages
from services.portal.web.passwords import Passwords
from services.portal.web.remembering import Kept
from services.portal.web.rendering import FOLDER, Pages, Statics
from services.portal.web.sessions import Limits, Sessions
from services.portal.web.tokens import Tokens
from services.portal.web.viewer import ElsewhereError, Visitor, visiting
from services.portal.web.wording import Language, Text
from services.runtime.clock import Clock
from services.runtime.errors import HongyanError, InvalidError
from services.runtime.settings import Settings
from services.runtime.web import status_of
from services.subscriptions.sealing import Sealer

API = ("/v1/", "/health", "/metrics", "/openapi.json")
"""What machines call: their errors are problem documents and not pages."""
_KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
Handler = Callable[[Request, Exception], Response | Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Site:
    """What all pages share."""

    pages: Pages
    audit: Audit
    sessions: Sessions
    entrance: Entrance
    outages: Outages
    kept: Kept
    cookies: Cookies
    statics: Statics
    settings: Settings
    clock: Clock


def new_site(
    settings: Settings, pool: ConnectionPool, people: PersonRepository, outages: Outages, clock: Clock
) -> Site:
    """Return what the pages share."""
    portal = settings.portal
    limits = Limits(timedelta(seconds=portal.idle_s), timedelta(seconds=portal.absolute_s))
    sessions = Sessions(SessionRepository(pool), clock, limits, outages)
    audit = Audit(AuditRepository(pool))
    sealer = Sealer(settings.security)
    tokens = Tokens(sealer, clock)
    entrance = Entrance(
        people, SignInRepository(pool), Passwords(), sealer, tokens, audit, clock, portal.second_factor_for
    )
    cookies = Cookies(https=(portal.public_url or portal.url).startswith("https://"))
    statics = Statics(FOLDER / "static")
    pages = Pages(cast("Language", settings.language), statics, sessions, outages, cookies, clock)
    return Site(pages, audit, sessions, entrance, outages, Kept(clock), cookies, statics, settings, clock)


def add_site(app: FastAPI, site: Site, routers: Sequence[APIRouter], stop: threading.Event) -> None:
    """Put the pages on an application, and look at the servers until ``stop``."""
    app.state.site = site
    app.state.routers = (_static_routes(site.statics), *routers)
    for router in app.state.routers:
        app.include_router(router, include_in_schema=False)
    site.pages.existing = {entry.path for entry in NAV if _exists(app, entry.path)}
    app.add_middleware(SafeHeaders, https=site.cookies.https)
    app.add_exception_handler(ElsewhereError, _elsewhere)
    for kind in (HongyanError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, _page_or(app.exception_handlers[kind], site))
    site.outages.start(stop)


def _exists(app: FastAPI, path: str) -> bool:
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
    return any(route.matches(scope)[0] is Match.FULL for route in app.routes)


def _static_routes(statics: Statics) -> APIRouter:
    router = APIRouter()

    @router.get("/static/{name}")
    def static(name: str, v: str = "") -> Response:
        content = statics.files.get(name)
        if content is None:
            return PlainTextResponse("404", 404)
        kind = _KINDS.get(name[name.rfind(".") :], "application/octet-stream")
        kept = {"Cache-Control": FOR_EVER} if v == statics.versions[name] else {"Cache-Control": "no-cache"}
        return Response(content, media_type=kind, headers=kept)

    return router


def _elsewhere(_request: Request, error: Exception) -> Response:
    return RedirectResponse(cast("ElsewhereError", error).path, 303)


def _page_or(api: Handler, site: Site) -> Handler:
    """Return a handler of errors that shows a page to people and leaves machines the answer they are used to."""

    def handle(request: Request, error: Exception) -> Response | Awaitable[Response]:
        if request.url.path.startswith(API):
            return api(request, error)
        if isinstance(error, RequestValidationError):
            status = 422
        else:
            status = error.status_code if isinstance(error, HTTPException) else status_of(error)
        if status == 500:
            api(request, error)  # it logs
        answer = error_page(site, visiting(request), status, error)
        if status == 500:
            answer.headers.update(site_headers(site.cookies.https))  # this one passes outside of what adds them
        return answer

    return handle


_ERRORS: dict[int, tuple[Text, Text]] = {
    403: (Text("无权查看或操作"), Text("您的账号没有这项权限。需要时请联系安全管理员。")),
    404: (Text("没有这一页或这一项"), Text("可能已被移除，或地址有误。可从导航重新进入。")),
    405: (Text("请求不正确"), Text("请从页面上重新操作。")),
    409: (Text("与现有内容冲突"), Text("内容可能刚被他人改过。请返回，刷新后重试。")),
    422: (Text("内容不符合要求"), Text("请返回，按下列提示修改。")),
    500: (Text("内部错误"), Text("已记入日志。请稍后重试；仍不行请联系系统管理员。")),
    503: (Text("暂不可用"), Text("所需的服务没有应答，恢复后本页即可使用。请稍后刷新。")),
}


def error_page(site: Site, visitor: Visitor, status: int, error: Exception) -> Response:
    """Return the page that says what went wrong and what to do."""
    title, advice = _ERRORS.get(status, _ERRORS[500 if status >= 500 else 422])
    fields = error.problems if isinstance(error, InvalidError) else ()
    detail = "" if fields or not isinstance(error, HongyanError) else str(error)
    return site.pages.page(
        visitor, "error.html", status, title=title, advice=advice, detail=detail, fields=fields, code=status
    )
