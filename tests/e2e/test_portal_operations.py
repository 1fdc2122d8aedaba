"""The portal's pages of operations, in a browser, over a working installation: what people come to them for."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect
from psycopg.conninfo import conninfo_to_dict

from services.runtime.database import dsn_of
from services.runtime.embedded.servers import Servers
from services.runtime.kafka.port import Admin
from tests.conditions import eventually
from tests.conftest import execute
from tests.portal_operations import CONTACT, REFUSAL, Operations, number, open_operations
from tests.portal_site import PortalSite, Tabs, assert_accessible, assert_fits, browser, looks, shoot, sign_in

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240)]
__all__ = ["browser"]
NAMES = {"mianyang": "绵阳市市场监管局", "chengdu": "成都市市场监管局", "luzhou": "泸州市市场监管局"}


@pytest.fixture(scope="module")
def work(
    servers: Servers,
    admin: Admin,
    template_database: str,
    registry_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Operations]:
    """One installation for all tests here, to which one certificate has been sent."""
    folder = tmp_path_factory.mktemp("operations")
    with open_operations(servers, admin, template_database, registry_url, folder) as found:
        found.certificate(1)
        eventually(lambda: found.state("cert-1", "market") == "delivered", 30, "delivered to market")
        eventually(lambda: found.state("cert-1", "luzhou") == "parked", 30, "parked at luzhou")
        ops = found.site.signed_in("ops")
        eventually(lambda: 'class="badge badge-bad">保持' in ops.get("/agencies").text, 30, "held for all to see")
        yield found


@pytest.mark.parametrize(
    ("agency", "reason", "words", "next_step"),
    [
        ("chengdu", "要求 行政区划 division 等于 510100，这一件是 510000 四川省", "最接近的是订阅", "/subscriptions/"),
        ("mianyang", "接收端没有正常应答，队列保持", "自 2", "/agencies/mianyang"),
        ("luzhou", "以 HTTP 422 拒收了这一件", REFUSAL, "/parked?agency=luzhou"),
        ("yibin", "订阅已被暂停", "最接近的是订阅", "/subscriptions/"),
        ("leshan", "单位没有任何订阅", "", "/subscriptions"),
        ("nanchong", "推送已被暂停", "", "/agencies/nanchong"),
    ],
    ids=["filter", "line held", "parked", "grant suspended", "no grant", "paused"],
)
def test_why_a_certificate_has_not_reached_an_agency_is_found_within_a_minute(
    work: Operations, browser: Tabs, agency: str, reason: str, words: str, next_step: str
) -> None:
    """From the sign-in page on: type the certificate's number, open it, and ask about the agency."""
    with browser.page(work.url) as page:
        began, clicks = time.monotonic(), Clicks(page)
        sign_in(page, "ops")
        page.get_by_label("查一个事件").fill(number(1))
        clicks.on("button", "查询")
        clicks.on("link", re.compile(re.escape("医广[2025]第0000001号")))
        row = page.get_by_role("row").filter(has=page.locator(f"a[href='/agencies/{agency}']"))
        if row.count():
            row.get_by_role("link", name="为什么没有送达").click()
        else:
            page.get_by_label("上面没有的单位，为什么没有收到").select_option(agency)
            clicks.on("button", "问为什么")
        answer = page.get_by_role("region", name="没有收到，原因")
        expect(answer).to_contain_text(reason)
        expect(answer).to_contain_text(words)
        step = answer.get_by_role("link").first.get_attribute("href") or ""
        assert step.startswith(next_step)
        assert (clicks.number <= 3, time.monotonic() - began < 60) == (True, True)
        there = page.goto(step)
        assert there is not None
        assert there.ok, step


class Clicks:
    """Clicks and counts."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.number = 0

    def on(self, role: str, name: str | re.Pattern[str]) -> None:
        """Click the only thing of this role and name in the page's content."""
        self._page.get_by_role("main").get_by_role(role, name=name).click()  # type: ignore[arg-type]
        self.number += 1


def test_every_page_can_be_read_by_everybody_it_is_for(work: Operations, browser: Tabs) -> None:
    """In both languages, light and dark, at a desk and on a phone; without what screen readers stumble over."""
    paths = {
        "overview": "/",
        "events": f"/events?q={number(1)}",
        "event": "/events/one?id=cert-1",
        "why": "/events/why?id=cert-1&agency=mianyang",
        "agencies": "/agencies",
        "agency": "/agencies/mianyang",
        "alerts": "/alerts?closed=true",
    }
    for language, theme, size in looks():
        for account in ("ops", "shi", "wei") if size == "wide" else ("ops",):
            with browser.page(work.url, size, theme) as page:
                page.context.add_cookies([{"name": "hongyan_language", "value": language, "url": work.url}])
                sign_in(page, account)
                own = ("overview", "event") if account != "ops" else tuple(paths)
                for name in own:
                    page.goto(paths[name])
                    expect(page.locator("h1")).to_have_count(1)
                    shoot(page, f"{name}-{account}-{language}-{theme}-{size}")
                    assert_accessible(page)
                    assert_fits(page)


def test_numbers_change_by_themselves(work: Operations, browser: Tabs) -> None:
    """A certificate that is published shows on an open overview, which is not loaded again."""
    with browser.page(work.url) as page:
        sign_in(page, "ops")
        page.evaluate("window.sameDocument = true")
        shown = page.locator("svg.flow-wide text.number-left").first
        before = int((shown.text_content() or "0").replace(",", ""))
        work.certificate(2)
        expect(shown).not_to_have_text(str(before), timeout=20_000)
        assert int((shown.text_content() or "0").replace(",", "")) > before
        assert page.evaluate("window.sameDocument") is True


def test_each_side_sees_its_own_and_nothing_else(work: Operations) -> None:
    """An agency its own line and events, a department its own events; an administrator no person's name."""
    shi, wei, ops = (work.site.signed_in(account) for account in ("shi", "wei", "ops"))
    assert shi.get("/agencies").location == "/agencies/market"
    assert (shi.get("/agencies/market").status, shi.get("/agencies/mianyang").status) == (200, 403)
    assert (wei.get("/agencies").status, wei.get("/agencies/market").status) == (200, 403)
    event = shi.get("/events/one?id=cert-1").text
    assert ("省市场监管局" in event, any(name in event for name in NAMES.values())) == (True, False)
    assert "没有收到，原因" not in shi.get("/events/why?id=cert-1&agency=market").text
    assert shi.post("/agencies/market/pause", {"reason": "r"}).status == 403
    asked = ops.get("/events/one?id=cert-1&personal=true").text
    assert ("个人信息，未显示" in asked, "本次查看个人信息已记入审计" in asked, CONTACT in asked) == (
        True,
        False,
        False,
    )


def test_looking_at_personal_data_is_asked_for_and_recorded(work: Operations, browser: Tabs) -> None:
    """Nothing about a person is on the page before; afterwards the audit administrator finds who looked at what."""
    with browser.page(work.url) as page:
        sign_in(page, "wei")
        page.goto("/events/one?id=cert-1")
        expect(page.get_by_text("个人信息，未显示").first).to_be_visible()
        expect(page.get_by_text(CONTACT)).to_have_count(0)
        page.get_by_role("link", name="显示个人信息").click()
        expect(page.get_by_text("本次查看个人信息已记入审计。")).to_be_visible()
        expect(page.get_by_text(CONTACT)).to_be_visible()
    found = work.site.signed_in("aud").get("/audit?object=event/cert-1").text
    assert ("event/cert-1" in found, ">wei<" in found) == (True, True)


def test_a_broken_receiver_is_brought_back(work: Operations, browser: Tabs) -> None:
    """The operator sees who is in trouble, tries the receiver, and sees it come back without loading the page again."""
    with browser.page(work.url) as page:
        sign_in(page, "ops")
        page.get_by_role("region", name="要处理的接收单位").or_(
            page.locator("section", has_text="要处理的接收单位")
        ).first.get_by_role("link", name=NAMES["mianyang"]).click()
        page.get_by_role("button", name="试投递").click()
        expect(page.get_by_role("heading", name="没有送达")).to_be_visible()
        work.receivers["mianyang"].open()
        page.get_by_role("button", name="再试一次").click()
        expect(page.get_by_role("heading", name="送达了")).to_be_visible()
        page.get_by_role("link", name="回到接收单位").click()
        expect(page.locator("[data-live] .note .badge")).to_have_text("正常", timeout=30_000)
    eventually(lambda: work.state("cert-1", "mianyang") == "delivered", 20, "delivered after all")


def test_what_is_done_to_an_agency_asks_for_a_reason_and_is_recorded(work: Operations, browser: Tabs) -> None:
    """Resumed by the system administrator; its key changed by the security administrator and shown once."""
    with browser.page(work.url) as page:
        sign_in(page, "ops")
        page.goto("/agencies/nanchong")
        page.get_by_text("恢复推送").first.click()
        page.get_by_label("理由").fill("机房已就绪")
        page.get_by_role("button", name="恢复推送").click()
        expect(page.get_by_text("推送已恢复，队列从游标续推。")).to_be_visible()
    eventually(lambda: work.state("cert-1", "nanchong") == "delivered", 20, "delivered once resumed")
    sec = work.site.signed_in("sec")
    sec.get("/agencies/market")
    assert sec.post("/agencies/market/rotate-key", {"reason": ""}).status == 422
    shown = sec.post("/agencies/market/rotate-key", {"reason": "例行换发"})
    assert (shown.status, "whsec_" in shown.text, "whsec_" in sec.get("/agencies/market").text) == (200, True, False)
    assert sec.post("/agencies/market/pause", {"reason": "r"}).status == 403
    found = work.site.signed_in("aud").get("/audit").text
    assert all(one in found for one in ("agency.resume", "机房已就绪", "agency.rotate-key", "例行换发"))


def test_an_agency_is_sent_again_what_it_had_since_a_time(work: Operations) -> None:
    """First how many there are, then they come under the ids that the receiver knows."""
    ops, receiver = work.site.signed_in("ops"), work.receivers["market"]
    before = receiver.accepted.count("cert-1")
    ops.get("/agencies/market")
    since = {"since": (work.site.clock.now() - timedelta(hours=1)).isoformat()}
    looked = ops.post("/agencies/market/replay", since)
    assert "件可重新送" in looked.text
    assert receiver.accepted.count("cert-1") == before
    assert ops.post("/agencies/market/replay", since | {"step": "go"}).status == 422
    done = ops.post("/agencies/market/replay", since | {"step": "go", "reason": "接收方数据库回退"})
    assert done.status == 303
    eventually(lambda: receiver.accepted.count("cert-1") > before, 20, "sent again")


@contextmanager
def without_database(site: PortalSite, dsn: str) -> Iterator[None]:
    """Let nobody connect to the portal's database, and end who is."""
    name = conninfo_to_dict(dsn_of(site.settings.database))["dbname"]
    execute(dsn, f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
    execute(dsn, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    try:
        yield
    finally:
        execute(dsn, f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")


def test_while_a_server_is_away_pages_say_so_and_keep_what_they_can(work: Operations, servers: Servers) -> None:
    """Numbers are marked with their age, and the list of agencies is that of before."""
    ops = work.site.signed_in("ops")
    assert "数据截至" not in ops.get("/agencies").text
    work.site.clock.ahead = timedelta(seconds=30)
    try:
        assert "数据截至" in ops.get("/agencies").text
    finally:
        work.site.clock.ahead = timedelta()
    with without_database(work.site, servers.dsn):
        told = eventually(
            lambda: (found := ops.get("/agencies")) and "postgresql 没有应答" in found.text and found, 20, "said"
        )
        assert (told.status, "名录截至" in told.text, NAMES["mianyang"] in told.text) == (200, True, True)
        assert ops.get("/").status == 200
        assert ops.get("/agencies/market").status == 200
        assert ops.get("/events").status == 503
    eventually(lambda: ops.get("/events").status == 200, 20, "back")
