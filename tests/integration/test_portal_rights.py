"""Who may what in the portal: every route of it, for every kind of person and for who is signed out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from fastapi.routing import APIRoute

from tests.conditions import eventually
from tests.portal_rights import KINDS, LET, NOBODYS, OBJECTS, RIGHTS, SIDED, SIDES, SIGNED_OUT
from tests.portal_sides import OURS, TwoSides, signed_in, two_sides
from tests.portal_site import Answer, PortalSite, Visitor

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
    wrong = []
    for method, path in routes(portal):
        for kind in KINDS:
            if kind == SIGNED_OUT:
                visitor = portal.visitor()
                visitor.get("/login")
            else:
                visitor = signed_in(portal, accounts[kind])
            let = is_let(portal, visitor, method, path)
            if let is not (kind in RIGHTS[method, path]):
                wrong.append(f"{kind} is {'let in' if let else 'refused'}: {method} {path}")
    assert wrong == []


@pytest.fixture(scope="module")
def sides(portal: PortalSite) -> Iterator[TwoSides]:
    """Two departments and two agencies with objects of their own."""
    with two_sides(portal) as found:
        yield found


def test_every_object_is_for_its_own_side_and_no_other(sides: TwoSides) -> None:
    """Of each route that names an object: an agency's and a department's own, and real ones of another's.

    Who may not see an object that is there is refused (403), or it is not there for them (404): never let in.
    """
    wrong = []
    for (method, route), (address, expected) in OBJECTS.items():
        for side, wanted in zip(SIDES, expected, strict=True):
            if wanted is None:
                continue
            who, _, whose = side.partition(", ")
            objects = dict(sides.objects["ours" if whose == "its own" else "theirs"])
            objects["job"] = objects[f"{who}_job"]
            visitor = sides.agency if who == "agency" else sides.department
            path, _, ticked = address.format_map(objects).partition("#")
            answer = followed(visitor, called(visitor, method, path, ticked))
            found = answer.status if answer.status in {403, 404} else LET
            if found != wanted:
                wrong.append(f"{side}: {found}, not {wanted}: {method} {route}")
    assert wrong == []


def test_of_many_letters_a_department_resubmits_its_own_alone(sides: TwoSides) -> None:
    """Another's is told to be another's, and stays as it was."""
    letter = f"router/{sides.objects['theirs']['letter']}"
    begun = called(sides.department, "POST", "/dead-letters/resubmit", f"number/{letter}")
    assert f"死信 {letter} 不归 {OURS.department} 看" in followed(sides.department, begun).text


def test_no_route_that_names_an_object_of_a_side_is_left_out() -> None:
    """A new page about somebody's object is asked for another's here too."""
    asked = {one for one, who in RIGHTS.items() if "{" in one[1] and who & SIDED}
    assert sorted(asked - OBJECTS.keys() - {one for one in asked if one[1] in NOBODYS}) == []


def called(visitor: Visitor, method: str, path: str, ticked: str) -> Answer:
    """Call a route with an object; ``ticked`` is a box of its form."""
    if method == "GET":
        return visitor.get(path)
    form: dict[str, str | list[str]] = {"reason": "测试", "from": "2025-01-01", "to": "2025-01-02"}
    return visitor.post(path, form | ({ticked: "on"} if ticked else {}))


def followed(visitor: Visitor, answer: Answer) -> Answer:
    """Return the page that an answer leads to at last, where work that it began has ended."""

    at = answer.location if answer.status == 303 else ""

    def ended() -> Answer | None:
        nonlocal answer, at
        if at:
            answer = visitor.get(at)
        if answer.status == 303:
            at = answer.location
        return None if answer.status == 303 or (at.startswith("/jobs/") and answer.status == 200) else answer

    return eventually(ended, 20, "the result")
