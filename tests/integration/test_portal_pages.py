"""The pages that everybody shares, in a real browser: signing in, one's account, people, the audit."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Page

from tests.portal_site import PASSWORD, PortalSite, Tabs, assert_accessible, assert_fits, looks, shoot, sign_in

pytestmark = pytest.mark.servers

SHOWN = {
    "security": ("/", "/account", "/account/password", "/account/second-factor", "/people", "/people/new", "/no-such"),
    "audit": ("/audit",),
}


def test_a_new_installation_is_taken_over_in_a_browser(portal: PortalSite, browser: Tabs) -> None:
    """By the first account's one-time password; then somebody gets an account and comes in by theirs.

    Nobody may have come in before, so this test stands first.
    """
    first = json.loads(portal.api("POST", "/v1/people/first").text)
    assert json.loads(portal.api("POST", "/v1/people/first").text)["password"] != first["password"]
    first = json.loads(portal.api("POST", "/v1/people/first").text)
    with browser.page(portal.url) as page:
        sign_in(page, first["person"], first["password"])
        page.wait_for_url("**/account/password")
        assert_accessible(page)
        choose(page, first["password"], PASSWORD)
        page.get_by_role("link", name="人员").click()
        page.get_by_role("link", name="新建账号").click()
        page.get_by_label("账号").fill("wang")
        page.get_by_label("姓名").fill("王五")
        page.get_by_role("button", name="新建").click()
        assert page.locator(".error").count() == 1
        assert_accessible(page)
        page.get_by_label("系统管理员").check()
        page.get_by_role("button", name="新建").click()
        given = page.locator(".secret").inner_text()
        assert_accessible(page)
        page.get_by_role("button", name="退出").click()
        sign_in(page, "wang", given)
        choose(page, given, PASSWORD)
        assert page.get_by_role("link", name="人员").count() == 0
        assert page.goto("/people").status == 403
        assert_accessible(page)
    assert json.loads(portal.api("POST", "/v1/people/first").text) is None


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


def choose(page: Page, old: str, new: str) -> None:
    """Choose a password."""
    page.get_by_label("一次性密码").fill(old)
    page.get_by_label("新密码").fill(new)
    page.get_by_label("再输一次").fill(new)
    page.get_by_role("button", name="保存密码").click()
    page.wait_for_url("**/account")


def test_a_keyboard_reaches_the_content_first_and_a_phone_has_a_menu(portal: PortalSite, browser: Tabs) -> None:
    """The first stop of the tabulator skips the navigation; on a phone it is folded away until asked for."""
    accounts = portal.everyone()
    with browser.page(portal.url, "phone") as page:
        sign_in(page, accounts["security"])
        page.goto("/account")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "content"
        link = page.get_by_role("navigation").get_by_role("link", name="人员")
        assert not link.is_visible()
        page.get_by_role("button", name="菜单").click()
        assert_accessible(page)
        link.click()
        assert page.url.endswith("/people")
        page.get_by_role("button", name="深色").click()
        assert page.locator("html").get_attribute("data-theme") == "dark"
        page.goto("/account")
        assert page.locator("html").get_attribute("data-theme") == "dark"


def test_a_page_works_without_scripts(portal: PortalSite, browser: Tabs) -> None:
    """Signing in, the navigation, and leaving."""
    accounts = portal.everyone()
    with browser.page(portal.url, "phone", java_script_enabled=False) as page:
        sign_in(page, accounts["audit"])
        page.get_by_role("link", name="审计", exact=True).click()
        assert page.get_by_role("table").is_visible()
        page.get_by_role("button", name="退出").click()
        assert page.url.endswith("/login")
