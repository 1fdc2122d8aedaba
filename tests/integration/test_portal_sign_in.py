"""Signing in to the portal on real servers: what lets somebody in, what keeps others out."""

from __future__ import annotations

import re
from datetime import timedelta

import psycopg
import pyotp
import pytest

from services.identity.people import Role
from services.portal.web.headers import HEADERS
from tests.portal_site import PASSWORD, PortalSite, Visitor

pytestmark = pytest.mark.servers

SESSION, DEVICE = "hongyan_session", "hongyan_device"
WRONG = "一句不对的话 not the password"


def is_in(visitor: Visitor) -> bool:
    """Tell whether somebody is signed in."""
    return visitor.get("/account").status == 200


def test_a_password_lets_somebody_in_and_leads_on_to_the_page_they_wanted(portal: PortalSite) -> None:
    """Signed out one is sent to the sign-in page and from there to where one was going."""
    portal.person("ops", Role.SYSTEM)
    visitor = portal.visitor()
    asked = visitor.get("/account?x=1")
    assert (asked.status, asked.location) == (303, "/login?next=/account%3Fx%3D1")
    answer = visitor.sign_in("ops", to="/account?x=1")
    assert (answer.status, answer.location) == (303, "/account?x=1")
    assert "ops 某" in visitor.get("/account").text


def test_nobody_is_sent_to_another_site(portal: PortalSite) -> None:
    """Whatever the address of the sign-in page says."""
    portal.person("ops", Role.SYSTEM)
    for elsewhere in ("https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere.example"):
        assert portal.visitor().sign_in("ops", to=elsewhere).location == "/"


def test_a_wrong_password_and_an_unknown_account_are_told_alike(portal: PortalSite) -> None:
    """So nobody learns which accounts there are."""
    portal.person("ops", Role.SYSTEM)
    told = []
    for account in ("ops", "nobody-here"):
        answer = portal.visitor().sign_in(account, WRONG)
        assert answer.status == 401
        told.append(re.findall(r'role="alert"><p>(.*?)</p>', answer.text))
    assert told[0] == told[1] != []


def test_cookies_can_be_read_by_no_script_and_sent_by_no_other_site(portal: PortalSite) -> None:
    """And pages are kept by no cache."""
    portal.person("ops", Role.SYSTEM)
    visitor = portal.visitor()
    answer = visitor.sign_in("ops")
    for name in (SESSION, DEVICE):
        marks = {part.strip().lower() for part in answer.cookie(name).split(";")[1:]}
        assert {"httponly", "samesite=lax", "path=/"} <= marks
        assert not any(mark.startswith("domain") for mark in marks)
    assert "max-age" not in answer.cookie(SESSION).lower()
    assert visitor.get("/account").headers["Cache-Control"] == "no-store"


def test_signing_in_gives_a_new_session_and_ends_the_one_before(portal: PortalSite) -> None:
    """A token that somebody else has planted, or known, is worth nothing afterwards."""
    portal.person("ops", Role.SYSTEM)
    victim = portal.visitor()
    victim.cookies[SESSION] = "planted-by-somebody-else"
    victim.sign_in("ops")
    first = victim.cookies[SESSION]
    assert first != "planted-by-somebody-else"
    spy = portal.visitor()
    spy.cookies[SESSION] = first
    assert is_in(spy)
    again = portal.visitor()
    again.get("/login")
    again.cookies[SESSION] = first
    again.csrf = re.findall(r'name="csrf" value="([^"]+)"', again.get("/account").text)[0]
    answer = again.post("/login", {"account": "ops", "password": PASSWORD})
    assert answer.status == 303
    assert again.cookies[SESSION] != first
    assert not is_in(spy)


@pytest.mark.parametrize("path", ["/login", "/logout", "/preferences", "/account/password", "/account/sessions/end"])
def test_a_form_that_is_not_ours_is_refused(portal: PortalSite, path: str) -> None:
    """Without the token, with another's, or sent by another site's page."""
    portal.person("ops", Role.SYSTEM)
    visitor, other = portal.signed_in("ops"), portal.signed_in("ops")
    assert visitor.post(path, {"csrf": ""}).status == 403
    assert visitor.post(path, {"csrf": other.csrf}).status == 403
    assert visitor.post(path, **{"Sec-Fetch-Site": "cross-site"}).status == 403
    stranger = portal.visitor()
    assert stranger.post(path, {"csrf": "made-up"}).status in {303, 403}
    stranger.get("/login")
    del stranger.cookies["hongyan_form"]
    assert stranger.post(path).status in {303, 403}
    assert is_in(visitor)


def test_every_answer_has_the_headers(portal: PortalSite) -> None:
    """Pages, redirects, refusals, files, the API and what does not exist."""
    portal.person("ops", Role.SYSTEM)
    visitor = portal.signed_in("ops")
    paths = ("/", "/login", "/account", "/people", "/no-such", "/static/portal.css", "/static/none", "/v1/people")
    for path in (*paths, "/health", "/v1/no-such"):
        headers = visitor.get(path).headers
        assert {name: headers.get(name) for name in HEADERS} == HEADERS, path
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy and "http" not in policy
    assert visitor.get("/static/portal.css?v=x").headers["Cache-Control"] == "no-cache"


def test_an_error_of_ours_is_a_page_too_with_the_headers(portal: PortalSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to do, and nothing of the inside."""
    portal.person("reader", Role.AUDIT)
    reader = portal.signed_in("reader")

    def fails(*_: object) -> None:
        raise ZeroDivisionError("a secret of the inside")

    monkeypatch.setattr(portal.app.state.site.audit.repository, "search", fails)
    answer = reader.get("/audit")
    assert answer.status == 500
    assert "已记入日志" in answer.text and "inside" not in answer.text
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS


def test_what_no_person_sends_is_refused(portal: PortalSite) -> None:
    """A sign that no text holds, and a form that is far too large."""
    visitor = portal.visitor()
    visitor.get("/login")
    assert visitor.get("/login?next=%00").status == 400
    assert visitor.get("/people/%00").status == 400
    assert visitor.post("/login", {"account": "a\0b", "password": WRONG}).status == 401
    assert visitor.ask("POST", "/login", "x", {"Content-Length": "5000000"}).status == 413


def test_whoever_fails_waits_ever_longer_but_their_own_browser_lets_them_in(portal: PortalSite) -> None:
    """Somebody who guesses from elsewhere does not lock the owner out, and nobody is locked out for ever."""
    portal.person("guessed", Role.SYSTEM)
    own = portal.signed_in("guessed")
    own.post("/logout")
    for _ in range(5):
        assert "秒后再试" not in portal.visitor().sign_in("guessed", WRONG).text
    assert "秒后再试" in portal.visitor().sign_in("guessed", WRONG).text
    assert "秒后再试" in portal.visitor().sign_in("guessed").text
    assert own.sign_in("guessed").status == 303
    portal.clock.ahead += timedelta(seconds=31)
    stranger = portal.visitor()
    assert "秒后再试" not in stranger.sign_in("guessed", WRONG).text
    portal.clock.ahead += timedelta(seconds=31)
    assert "秒后再试" in stranger.sign_in("guessed").text
    portal.clock.ahead += timedelta(seconds=30)
    assert portal.visitor().sign_in("guessed").status == 303


def test_an_address_that_tries_many_accounts_waits_too(portal: PortalSite) -> None:
    """Others at other addresses don't."""
    portal.person("ops", Role.SYSTEM)
    guesser = portal.visitor("203.0.113.7")
    for number in range(30):
        assert "秒后再试" not in guesser.sign_in(f"account-{number}", WRONG).text
    assert "秒后再试" in guesser.sign_in("ops").text
    assert portal.visitor().sign_in("ops").status == 303
    portal.clock.ahead += timedelta(seconds=31)
    assert guesser.sign_in("ops").status == 303


def test_the_security_administrator_unlocks(portal: PortalSite) -> None:
    """With a reason, which is kept."""
    portal.person("locked", Role.SYSTEM)
    portal.person("guard", Role.SECURITY)
    for _ in range(5):
        portal.visitor().sign_in("locked", WRONG)
    guard = portal.signed_in("guard")
    assert "还须等待" in guard.get("/people/locked").text
    assert guard.post("/people/locked/unlock").status == 422
    assert guard.post("/people/locked/unlock", {"reason": "本人来电核实"}).status == 303
    assert portal.visitor().sign_in("locked").status == 303
    with portal.pool.connection() as connection:
        kept = connection.execute(
            "SELECT person, reason FROM audit WHERE action = 'person.unlock' AND outcome = 'done'"
        ).fetchall()
    assert kept == [("guard", "本人来电核实")]


def test_a_second_factor_is_asked_for_once_enrolled_and_a_code_works_once(portal: PortalSite) -> None:
    """Enrolled by the key on the page; afterwards the password alone opens nothing."""
    portal.person("careful", Role.SYSTEM)
    visitor = portal.signed_in("careful")
    page = visitor.get("/account/second-factor").text
    secret = re.search(r'class="mono">([A-Z2-7 ]+)<', page)
    assert secret is not None and "<svg" in page
    totp = pyotp.TOTP(secret[1].replace(" ", ""))
    assert "动态码不对" in visitor.post("/account/second-factor", {"code": "000000"}).text
    code = totp.at(portal.clock.now())
    shown = visitor.post("/account/second-factor", {"code": code}).text
    recovery = re.findall(r"<li>([0-9a-f]{6}-[0-9a-f]{6})</li>", shown)
    assert len(recovery) == 10

    def half_in() -> Visitor:
        found = portal.visitor()
        assert found.sign_in("careful").location == "/login/second?next=/"
        assert not is_in(found)
        found.get("/login/second")
        return found

    visitor.get("/account/second-factor")
    assert "密码不对" in visitor.post("/account/second-factor", {"code": code, "password": WRONG}).text
    assert half_in().post("/login/second", {"code": code}).status == 401
    portal.clock.ahead += timedelta(seconds=60)
    fresh = totp.at(portal.clock.now())
    assert half_in().post("/login/second", {"code": fresh}).status == 303
    assert half_in().post("/login/second", {"code": fresh}).status == 401
    assert half_in().post("/login/second", {"code": recovery[0].upper()}).status == 303
    assert half_in().post("/login/second", {"code": recovery[0]}).status == 401
    late = half_in()
    portal.clock.ahead += timedelta(minutes=6)
    assert late.post("/login/second", {"code": totp.at(portal.clock.now())}).status == 401
    with portal.pool.connection() as connection:
        kept = connection.execute("SELECT totp, recovery FROM sign_in WHERE person = 'careful'").fetchone()
    assert kept is not None and totp.secret not in kept[0] and recovery[1] not in kept[1]


def test_a_one_time_password_lets_in_to_choose_ones_own_and_to_nothing_else(portal: PortalSite) -> None:
    """Given by the administration API, good for three days, and used up by choosing."""
    assert portal.api("POST", "/v1/people", {"id": "newcomer", "name": "新人", "roles": ["system"]}).status == 201
    given = re.search(r'"password":"([^"]+)"', portal.api("POST", "/v1/people/newcomer/password").text)
    assert given is not None
    visitor = portal.visitor()
    assert visitor.sign_in("newcomer", given[1]).status == 303
    for path in ("/", "/account", "/people"):
        assert visitor.get(path).location == "/account/password"
    visitor.get("/account/password")
    chosen = "万里人南去 geese fly north"
    change = {"old": given[1], "new": chosen, "again": chosen}
    assert "两次输入不一致" in visitor.post("/account/password", change | {"again": "x"}).text
    assert (
        "常见密码"
        in visitor.post("/account/password", change | {"new": "Password12345", "again": "Password12345"}).text
    )
    assert "原密码不对" in visitor.post("/account/password", change | {"old": WRONG}).text
    before = visitor.cookies[SESSION]
    assert visitor.post("/account/password", change).location == "/account"
    assert visitor.cookies[SESSION] != before
    assert is_in(visitor)
    assert portal.visitor().sign_in("newcomer", given[1]).status == 401
    again = re.search(r'"password":"([^"]+)"', portal.api("POST", "/v1/people/newcomer/password").text)
    assert again is not None
    portal.clock.ahead += timedelta(hours=73)
    assert "一次性密码已过期" in portal.visitor().sign_in("newcomer", again[1]).text


def test_a_session_that_is_not_used_ends(portal: PortalSite) -> None:
    """Half an hour, by the portal's clock."""
    portal.person("ops", Role.SYSTEM)
    visitor = portal.signed_in("ops")
    portal.clock.ahead += timedelta(minutes=29)
    assert is_in(visitor)
    portal.clock.ahead += timedelta(minutes=31)
    assert not is_in(visitor)


def test_leaving_ends_the_session_and_leaving_everywhere_the_others(portal: PortalSite) -> None:
    """On the server, not just in the browser."""
    portal.person("ops", Role.SYSTEM)
    one, two = portal.signed_in("ops"), portal.signed_in("ops")
    spy = portal.visitor()
    spy.cookies[SESSION] = two.cookies[SESSION]
    assert one.post("/account/sessions/end").status == 303
    assert [is_in(visitor) for visitor in (one, two, spy)] == [True, False, False]
    spy.cookies[SESSION] = one.cookies[SESSION]
    one.get("/account")
    assert one.post("/logout").location == "/login"
    assert not is_in(spy)


def test_who_is_disabled_is_out_at_once_with_their_key_too(portal: PortalSite) -> None:
    """And nobody disables themselves."""
    portal.units()
    added = portal.api("POST", "/v1/people", {"id": "leaver", "name": "离职", "agency": "market"})
    key = re.search(r'"key":"([^"]+)"', added.text)
    assert key is not None
    given = re.search(r'"password":"([^"]+)"', portal.api("POST", "/v1/people/leaver/password").text)
    assert given is not None
    visitor = portal.visitor()
    visitor.sign_in("leaver", given[1])
    assert portal.api("GET", "/v1/subscriptions", key=key[1]).status == 200
    portal.person("guard", Role.SECURITY)
    guard = portal.signed_in("guard")
    assert guard.post("/people/guard/disable", {"reason": "试试"}).status == 403
    assert guard.post("/people/leaver/disable", {"reason": "离职"}).status == 303
    assert visitor.get("/account/password").location.startswith("/login")
    assert portal.visitor().sign_in("leaver", given[1]).status == 401
    assert portal.api("GET", "/v1/subscriptions", key=key[1]).status == 401


def test_the_database_itself_keeps_the_three_administrators_apart(portal: PortalSite) -> None:
    """Whatever a program asks of it."""
    portal.person("ops", Role.SYSTEM)
    with portal.pool.connection() as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute("UPDATE person SET roles = '{system,audit}' WHERE id = 'ops'")
