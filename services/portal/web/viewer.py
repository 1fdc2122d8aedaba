"""Who looks at a page: a visitor who has not signed in, or a viewer who has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Request

from services.identity.people import ADMINISTRATORS, Person, Role
from services.portal.web import cookies
from services.portal.web.wording import LANGUAGES, Language, Text
from services.runtime.errors import ForbiddenError, HongyanError
from services.subscriptions.lifecycle import Actor

if TYPE_CHECKING:
    from services.identity.portal_sessions import Session
    from services.portal.web.site import Site

THEMES = ("auto", "light", "dark")


class ElsewhereError(HongyanError):
    """Something else comes first: signing in, or choosing a password."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Somebody at a browser: how they like to read, and the token that their forms must bring back."""

    language: Language
    theme: str
    csrf: str
    path: str
    address: str
    note: Mapping[str, Any] | None = None
    person: Person | None = None
    roles: frozenset[Role] = frozenset()

    def has(self, *roles: Role) -> bool:
        """Tell whether they hold any of these roles."""
        return bool(self.roles & set(roles))


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer(Visitor):
    """Somebody who has signed in."""

    person: Person
    session: str
    roles: frozenset[Role] = field(default_factory=frozenset)

    @property
    def administers(self) -> bool:
        """Tell whether this is one of the three administrators: they see operations, never personal fields."""
        return self.has(*ADMINISTRATORS)

    @property
    def agency(self) -> str | None:
        """Return the agency whose side they see."""
        return self.person.agency

    @property
    def department(self) -> str | None:
        """Return the department whose events they see."""
        return self.person.department

    @property
    def actor(self) -> Actor:
        """Return them as the administration's decisions know people."""
        if self.administers:
            return Actor(None, administrator=True, administrator_id=self.person.id)
        return Actor(self.person, administrator=False)


def allow(viewer: Viewer, *roles: Role) -> None:
    """Refuse whoever holds none of these roles; raises ForbiddenError."""
    if not viewer.has(*roles):
        names = "、".join(ROLE_NAMES[role] for role in roles)
        raise ForbiddenError(f"需要角色：{names} (this needs the role: {', '.join(roles)})")


ROLE_NAMES: Mapping[Role, Text] = {
    Role.SYSTEM: Text("系统管理员"),
    Role.SECURITY: Text("安全管理员"),
    Role.AUDIT: Text("审计管理员"),
    Role.STATISTICIAN: Text("统计员"),
}


def site_of(request: Request) -> Site:
    """Return the site that the application's state holds."""
    site: Site = request.app.state.site
    return site


def visiting(request: Request) -> Visitor:
    """Return who looks, signed in or not."""
    session = _session(request, touch=False)
    return _visitor(request) if session is None else _viewer(request, session)


def signed_in(request: Request) -> Viewer:
    """Return who looks, even where they have yet to choose a password; raises ElsewhereError for who is signed out."""
    return _viewer(request, _begun(request, touch=True))


def viewing(request: Request) -> Viewer:
    """Return who looks at an ordinary page; raises ElsewhereError for who is signed out or must choose a password."""
    return _ready(request, touch=True)


def watching(request: Request) -> Viewer:
    """Return who looks, without taking it for activity: what a page fetches by itself keeps nobody signed in."""
    return _ready(request, touch=False)


Viewing = Annotated[Viewer, Depends(viewing)]
Watching = Annotated[Viewer, Depends(watching)]
SignedIn = Annotated[Viewer, Depends(signed_in)]
Visiting = Annotated[Visitor, Depends(visiting)]


def address_of(request: Request) -> str:
    """Return where a request comes from."""
    return request.client.host if request.client else ""


def _ready(request: Request, *, touch: bool) -> Viewer:
    session = _begun(request, touch=touch)
    first = site_of(request).entrance.comes_first(session)
    if first is not None:
        raise ElsewhereError(first)
    return _viewer(request, session)


def _begun(request: Request, *, touch: bool) -> Session:
    session = _session(request, touch=touch)
    if session is None:
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        back = f"?next={quote(wanted)}" if touch and request.method == "GET" and wanted != "/" else ""
        raise ElsewhereError(f"/login{back}")
    return session


def _session(request: Request, *, touch: bool) -> Session | None:
    site = site_of(request)
    token = request.cookies.get(site.cookies.session)
    return site.sessions.find(token, touch=touch) if token else None


def _reading(request: Request) -> tuple[Language, str]:
    asked = request.cookies.get(cookies.LANGUAGE, "")
    theme = request.cookies.get(cookies.THEME, "")
    language = next((one for one in LANGUAGES if one == asked), site_of(request).pages.language)
    return language, theme if theme in THEMES else "auto"


def _visitor(request: Request) -> Visitor:
    language, theme = _reading(request)
    held = request.cookies.get(site_of(request).cookies.form)
    return Visitor(
        language=language,
        theme=theme,
        csrf=held if held and len(held) <= cookies.MAX_TOKEN else cookies.new_token(),
        path=request.url.path,
        address=address_of(request),
        note=cookies.note_of(request.cookies.get(cookies.NOTE)),
    )


def _viewer(request: Request, session: Session) -> Viewer:
    language, theme = _reading(request)
    return Viewer(
        language=language,
        theme=theme,
        csrf=session.csrf,
        path=request.url.path,
        address=address_of(request),
        note=cookies.note_of(request.cookies.get(cookies.NOTE)),
        person=session.person,
        roles=frozenset(Role(name) for name in session.person.roles),
        session=session.digest,
    )
