"""Signing in to the portal on real servers: what lets somebody in, what keeps others out."""

from __future__ import annotations

import pytest

from services.identity.people import Role
from tests.portal_site import PortalSite

pytestmark = pytest.mark.servers


def test_a_password_lets_somebody_in_and_leads_on_to_the_page_they_wanted(portal: PortalSite) -> None:
    """Signed out one is sent to the sign-in page and from there to where one was going."""
    portal.person("ops", Role.SYSTEM)
    visitor = portal.visitor()
    asked = visitor.get("/account?x=1")
    assert (asked.status, asked.location) == (303, "/login?next=/account%3Fx%3D1")
    answer = visitor.sign_in("ops", to="/account?x=1")
    assert (answer.status, answer.location) == (303, "/account?x=1")
    assert "ops 某" in visitor.get("/account").text
