"""The pages that everybody shares, in a real browser: signing in, one's account, people, the audit."""

from __future__ import annotations

import pytest

from tests.portal_site import PortalSite, Tabs, assert_accessible, assert_fits, looks, shoot, sign_in

pytestmark = pytest.mark.servers

SHOWN = {
    "security": ("/", "/account", "/account/password", "/account/second-factor", "/people", "/people/new", "/no-such"),
    "audit": ("/audit",),
}


@pytest.mark.parametrize(("language", "theme", "size"), looks())
def test_every_page_is_accessible_and_fits(
    portal: PortalSite, browser: Tabs, language: str, theme: str, size: str
) -> None:
    """In both languages, light and dark, wide and on a phone; nothing that the page's policy forbids is in it."""
    accounts = portal.everyone()
    pages = {kind: [*paths] for kind, paths in SHOWN.items()}
    pages["security"].append(f"/people/{accounts['department']}")
    with browser.page(portal.url, size, theme) as page:
        for kind, paths in pages.items():
            page.context.clear_cookies()
            page.goto("/login")
            page.get_by_role("button", name="English" if language == "en" else "中文").click()
            assert page.locator("html").get_attribute("lang") == ("en" if language == "en" else "zh-CN")
            assert_accessible(page)
            shoot(page, f"login-{language}-{theme}-{size}")
            sign_in(page, accounts[kind])
            for path in paths:
                answer = page.goto(path)
                assert answer is not None and answer.status == (404 if path == "/no-such" else 200)
                assert_accessible(page)
                assert_fits(page)
                shoot(page, f"{path.strip('/').replace('/', '-') or 'overview'}-{language}-{theme}-{size}")
