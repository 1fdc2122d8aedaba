"""Who may what in the portal: every route of it, for every kind of person and for who is signed out."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest
from fastapi.routing import APIRoute

from tests.portal_rights import KINDS, RIGHTS, SIGNED_OUT
from tests.portal_site import PortalSite, Visitor

pytestmark = pytest.mark.servers

VALUES = {"offset": "0", "number": "1", "form": "json", "month": "2024-01"}
"""What stands in an address that takes no other; all else is the name of nothing."""
_NAMED = re.compile(r"\{(\w+)(?::\w+)?\}")


def routes(portal: PortalSite) -> list[tuple[str, str]]:
    """Return method and path of every route of the pages."""
    found = [route for router in portal.app.state.routers for route in router.routes]
    assert all(isinstance(route, APIRoute) for route in found), "a router within an area's router is overlooked here"
    return [(method, one.path) for one in found if isinstance(one, APIRoute) for method in sorted(one.methods)]


def is_let(portal: PortalSite, visitor: Visitor, method: str, path: str) -> bool:
    """Call a route with names of nothing; tell whether it was right that kept somebody out, or not."""
    address = _NAMED.sub(lambda found: VALUES.get(found[1], "x-none"), path)
    body = urlencode({"csrf": visitor.csrf, "reason": "测试"}) if method == "POST" else None
    headers = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
    answer = visitor.ask(method, address, body, headers)
    assert answer.status != 500, f"{method} {path}: {answer.text}"
    if path == "/logout":
        return bool(answer.cookie(portal.app.state.site.cookies.session))
    return answer.status != 403 and answer.location.partition("?")[0] != "/login"


def test_every_route_has_its_rights_written_down(portal: PortalSite) -> None:
    """A new page without a line is refused here, and so is a line without a page."""
    assert sorted(set(routes(portal)) ^ RIGHTS.keys()) == []


def test_every_route_lets_in_whom_it_should_and_nobody_else(portal: PortalSite) -> None:
    """Each route for each kind of person, and for who is signed out."""
    accounts = portal.everyone()
    site = portal.app.state.site
    wrong = []
    for method, path in routes(portal):
        for kind in KINDS:
            visitor = portal.visitor()
            if kind == SIGNED_OUT:
                visitor.get("/login")
            else:
                token = site.sessions.begin(site.entrance.people.get(accounts[kind]), "192.0.2.9", "test")
                visitor.cookies[site.cookies.session] = token
                visitor.csrf = site.sessions.find(token, touch=False).csrf
            let = is_let(portal, visitor, method, path)
            if let is not (kind in RIGHTS[method, path]):
                wrong.append(f"{kind} is {'let in' if let else 'refused'}: {method} {path}")
    assert wrong == []
