"""Signing in and out, and how one likes to read."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from services.portal.web import cookies
from services.portal.web.entrance import SECOND_LASTS, Passed, RefusedError, WaitError
from services.portal.web.forms import Posted
from services.portal.web.site import Site
from services.portal.web.viewer import THEMES, SignedIn, Visiting, Visitor
from services.portal.web.wording import LANGUAGES, Text


def routes(site: Site) -> APIRouter:
    """Return the routes."""
    router = APIRouter()
    door = Door(site)

    @router.get("/login")
    def login(visitor: Visiting, next: str = "/") -> Response:  # noqa: A002  (what everybody calls it)
        if visitor.person is not None:
            return RedirectResponse(inside(next), 303)
        return door.page(visitor, next)

    @router.post("/login")
    def enter(request: Request, form: Posted, visitor: Visiting) -> Response:
        return door.by_password(request, visitor, form.get("account", ""), form.get("password", ""), form.get("next"))

    @router.get("/login/second")
    def second(request: Request, visitor: Visiting, next: str = "/") -> Response:  # noqa: A002
        if site.entrance.tokens.open("second", request.cookies.get(site.cookies.step)) is None:
            return RedirectResponse("/login", 303)
        return site.pages.page(visitor, "sign_in/second.html", next=inside(next), error=None)

    @router.post("/login/second")
    def enter_second(request: Request, form: Posted, visitor: Visiting) -> Response:
        return door.by_code(request, visitor, form.get("code", ""), form.get("next"))

    @router.post("/logout")
    def leave(_form: Posted, viewer: SignedIn) -> Response:
        site.sessions.end(viewer.session)
        answer = site.pages.to("/login", Text("已退出"))
        site.cookies.drop(answer, site.cookies.session)
        return answer

    @router.post("/preferences")
    def prefer(visitor: Visiting, form: Posted) -> Response:
        answer = RedirectResponse(inside(form.get("next", "/")), 303)
        for name, allowed in ((cookies.LANGUAGE, LANGUAGES), (cookies.THEME, THEMES)):
            chosen = form.get(name.removeprefix("hongyan_"), "")
            if chosen in allowed:
                site.cookies.keep(answer, name, chosen, cookies.YEAR_S)
        return answer

    return router


class Door:
    """Lets people in."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def page(self, visitor: Visitor, to: str | None, account: str = "", error: str | None = None) -> Response:
        """Return the sign-in page; with an error it is 401."""
        oidc = self._site.settings.oidc
        return self._site.pages.page(
            visitor,
            "sign_in/password.html",
            401 if error else 200,
            next=inside(to),
            account=account,
            error=error,
            oidc=oidc.label if oidc.issuer else None,
        )

    def by_password(self, request: Request, visitor: Visitor, account: str, password: str, to: str | None) -> Response:
        """Take a password."""
        entrance, names = self._site.entrance, self._site.cookies
        try:
            passed = entrance.by_password(visitor, account, password, request.cookies.get(names.device))
        except (RefusedError, WaitError) as error:
            return self.page(visitor, to, account, str(error))
        if passed.second is None:
            return self.let_in(request, passed, to)
        answer = RedirectResponse(f"/login/second?next={quote(inside(to))}", 303)
        names.keep(answer, names.step, passed.second, int(SECOND_LASTS.total_seconds()))
        return answer

    def by_code(self, request: Request, visitor: Visitor, code: str, to: str | None) -> Response:
        """Take a code of the second factor."""
        site, names = self._site, self._site.cookies
        token, device = request.cookies.get(names.step), request.cookies.get(names.device)
        try:
            passed = site.entrance.by_code(visitor, token, code, device)
        except (RefusedError, WaitError) as error:
            return site.pages.page(visitor, "sign_in/second.html", 401, next=inside(to), error=str(error))
        return self.let_in(request, passed, to)

    def let_in(
        self, request: Request, passed: Passed, to: str | None, method: Literal["password", "oidc"] = "password"
    ) -> Response:
        """Begin a new session: what the browser held before is worth nothing from now on."""
        site, names = self._site, self._site.cookies
        before = request.cookies.get(names.session)
        if before and (held := site.sessions.find(before, touch=False)):
            site.sessions.end(held.digest)
        address = request.client.host if request.client else ""
        token = site.sessions.begin(passed.person, address, request.headers.get("user-agent", ""), method)
        answer = RedirectResponse(inside(to), 303)
        names.keep(answer, names.session, token)
        device = site.entrance.device_of(passed.person, request.cookies.get(names.device))
        names.keep(answer, names.device, device, cookies.YEAR_S)
        for name in (names.step, names.form):
            names.drop(answer, name)
        return answer


def inside(path: str | None) -> str:
    """Return where to go on to: a path of this site, the first page for anything else."""
    if not path or not path.startswith("/") or path.startswith(("//", "/\\")) or "\\" in path:
        return "/"
    parts = urlsplit(path)
    return "/" if parts.scheme or parts.netloc or any(ord(c) < 32 for c in path) else path
