"""The portal's pages of operations, in a browser, over a working installation: what people come to them for."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Literal
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect
from psycopg.conninfo import conninfo_to_dict

from schemas.times import SHANGHAI
from services.runtime.embedded.servers import Servers
from services.runtime.kafka.port import Admin
from tests.conditions import eventually
from tests.events import ISSUED
from tests.portal import LAW
from tests.portal_operations import AGENCIES, CONTACT, REFUSAL, SOURCE, TYPES, Operations, number, open_operations
from tests.portal_outages import ELSEWHERE, KEPT, PAGES, PARTLY, SAID, WHOLE, Shown
from tests.portal_site import Answer, Tabs, Visitor, assert_accessible, assert_fits, browser, looks, shoot, sign_in
from tests.standstill import standing_still

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240)]
__all__ = ["browser"]
BEHIND = re.compile(r"台账落后 [1-9]\d* 条，数据截至 <time")
ANSWER = re.compile(r'<section class="box answer.*?</section>', re.DOTALL)
DETAILS = {
    "chengdu": ("发布时的订阅怎么说", "不匹配", "区划在范围之内"),
    "mianyang": ("按订阅给的", "批准人 health-li", "现在的订阅怎么说"),
    "luzhou": ("按订阅给的", "批准人 health-li"),
    "yibin": ("不匹配", "订阅生效"),
    "leshan": ("那时没有它的订阅。",),
    "nanchong": ("按订阅给的",),
}
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
        ("luzhou", "以 HTTP 422 拒收了这一件", "事件已停放，没有丢", "/parked?agency=luzhou"),
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
        page.get_by_text("逐项核对订阅：发布时和现在").click()
        details = page.locator("#grants")
        for detail in DETAILS[agency]:
            expect(details).to_contain_text(detail)
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
        before = shown.text_content() or "0 份"
        work.certificate(2)
        expect(shown).not_to_have_text(before, timeout=20_000)
        after = shown.text_content() or "0 份"
        assert int(after.removesuffix(" 份").replace(",", "")) > int(before.removesuffix(" 份").replace(",", ""))
        assert page.evaluate("window.sameDocument") is True


def test_each_side_sees_its_own_and_nothing_else(work: Operations) -> None:
    """An agency its own line and events, a department its own events; an administrator no person's name."""
    shi, wei, ops = (work.site.signed_in(account) for account in ("shi", "wei", "ops"))
    assert shi.get("/agencies").location == "/agencies/market"
    assert (shi.get("/agencies/market").status, shi.get("/agencies/mianyang").status) == (200, 403)
    assert (wei.get("/agencies").status, wei.get("/agencies/market").status) == (200, 403)
    for part in ("0000001", "川医广2025 ０００００", "（川）医广〔2025〕第0000001"):
        assert [("cert-1" in who.get(f"/events?q={quote(part)}").text) for who in (shi, wei, ops)] == [True] * 3, part
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


def test_a_department_sees_the_agencies_that_got_its_events_and_no_other(work: Operations) -> None:
    """One that has published nothing sees nobody; none sees an address, or what waits of other departments."""
    tax = {"id": "tax", "name": "省税务局", "source": "urn:sc:tax", "types": TYPES}
    work.api.done("/v1/departments", tax)
    work.site.person("shui", name="税务 郑", department="tax")
    wei, shui = (work.site.signed_in(account) for account in ("wei", "shui"))
    got = {AGENCIES[one] for one in ("market", "mianyang", "luzhou", "nanchong")}
    for path in ("/", "/agencies", "/live/overview", "/live/agencies"):
        shown = [one.live(path) if path.startswith("/live/") else one.get(path).text for one in (wei, shui)]
        seen = [{name for name in AGENCIES.values() if name in text} for text in shown]
        least = got if "agencies" in path else {NAMES["mianyang"]}
        assert (least <= seen[0] <= got, seen[1]) == (True, set()), path
        assert not [text for text in shown if "127.0.0.1" in text or "最久未送达" in text or "p95" in text], path


def test_every_next_step_leads_the_one_who_asks_somewhere(work: Operations) -> None:
    """Publisher and agency alike: no step is refused, and where none is theirs the page says whose it is."""
    work.site.person("li", name="卫健 李", department="health", approves=TYPES)
    work.site.person("che", name="成都 何", agency="chengdu")
    work.site.person("mian", name="绵阳 某", agency="mianyang")
    asked = [(who, agency) for who in ("wei", "li") for agency in AGENCIES] + [("che", "chengdu"), ("mian", "mianyang")]
    for who, agency in asked:
        visitor = work.site.signed_in(who)
        answer = ANSWER.search(visitor.get(f"/events/why?id=cert-1&agency={agency}").text)
        assert answer is not None
        steps = re.findall(r'href="([^"]+)"', answer[0])
        refused = [one for one in steps if visitor.get(unescape(one)).status != 200]
        assert (steps != [], refused) == (True, []), (who, agency)
        assert ("127.0.0.1" in answer[0]) is (who == "mian"), (who, agency)
    wei = work.site.signed_in("wei")
    assert "下一步由接收单位或系统管理员来做" in wei.get("/events/why?id=cert-1&agency=mianyang").text
    assert "接收单位现在" not in wei.get("/events/why?id=cert-1&agency=leshan").text


def test_an_agency_learns_nothing_of_events_that_it_could_not_be_given(work: Operations) -> None:
    """Where it never applied for the type an event that is there looks like one that is not: ids may be guessed."""
    for person, agency in (("le", "leshan"), ("che", "chengdu")):
        work.site.person(person, name=f"{agency} 某", agency=agency)
    le, che = work.site.signed_in("le"), work.site.signed_in("che")
    there, nowhere = (le.get(f"/events/why?id={one}&agency=leshan") for one in ("cert-1", "cert-none"))
    assert (there.status, nowhere.status) == (404, 404)
    assert plain_page(there, "cert-1") == plain_page(nowhere, "cert-none")
    assert "没有申请过它的类型" in there.text
    assert work.api.ask("/v1/explain?event=cert-1&agency=leshan", key=work.api.keys["leshan-zhang"])[0] == 404
    work.api.done("/v1/subscriptions", {"agency": "leshan", "types": TYPES, **LAW, "by": "leshan-zhang"})
    assert "没有提交" in le.get("/events/why?id=cert-1&agency=leshan").text
    told = che.get("/events/why?id=cert-1&agency=chengdu")
    assert (told.status, "要求 行政区划 division" in told.text, number(1) in told.text) == (200, True, False)


def plain_page(answer: Answer, event: str) -> str:
    """Return a page without what differs from one answer to the next: the id that was asked for, time and token."""
    return re.sub(r'name="csrf" value="[^"]+"|<time.*?</time>', "", answer.text.replace(event, ""))


def test_a_receivers_words_are_read_by_its_own_side_and_the_publisher_alone(work: Operations) -> None:
    """They may say again what stood in the event: who operates sees the status, on every page that tells of it."""
    work.site.person("lu", name="luzhou 某", agency="luzhou")
    ops, lu, wei = (work.site.signed_in(account) for account in ("ops", "lu", "wei"))
    pages = ["/events/one?id=cert-1", "/events/why?id=cert-1&agency=luzhou"]
    for reader in (lu, wei):
        assert [path for path in pages if REFUSAL not in reader.get(path).text] == []
    assert REFUSAL in lu.get("/parked").text
    for path in (*pages, "/parked?agency=luzhou", "/parked/luzhou/0", "/alerts?q=luzhou"):
        shown = ops.get(path)
        assert (shown.status, "422" in shown.text, REFUSAL in shown.text) == (200, True, False), path
    assert REFUSAL not in str(work.api.done("/v1/events/cert-1"))


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


def test_how_many_alerts_are_open_is_told_on_every_page_and_goes_on_by_itself(work: Operations, browser: Tabs) -> None:
    """In the navigation and on the overview as the page of alerts counts them; no page is loaded again for it."""
    with browser.page(work.url) as page:
        sign_in(page, "ops")
        page.goto("/catalogue")
        polled = page.locator(".nav [data-polled] .badge")
        expect(polled).to_have_class(re.compile("badge-bad"), timeout=20_000)
        page.goto("/")
        card = page.locator("#open-alerts")
        expect(card).to_have_text(re.compile(r"^[1-9]"), timeout=20_000)
        expect(polled).to_contain_text("个未关闭", timeout=20_000)
        card.click()
        expect(page.get_by_role("heading", name=re.compile("未关闭的（[1-9]"))).to_be_visible()


def test_an_agency_sees_of_itself_what_the_operator_sees(work: Operations, browser: Tabs) -> None:
    """Lag, backlog, since when its line is held and why, what to do, whom to tell; and of nobody else."""
    for person, agency in (("mian", "mianyang"), ("lu", "luzhou")):
        work.site.person(person, name=f"{agency} 某", agency=agency)
    with browser.page(work.url) as page:
        sign_in(page, "mian")
        expect(page.locator(".note").first).to_contain_text("原因")
        page.get_by_role("link", name="看本单位的延迟与投递").click()
        now = page.locator("[data-live]")
        held = work.site.signed_in("ops").get("/agencies/mianyang").text
        since = re.search(r"自 <time[^>]*>([^<]+)</time> 起，已", held)
        assert since is not None
        for words in ("保持", "接收端不应答，队列保持，事件不丢", since[1], "原因", "最久未送达", "待送达事件"):
            expect(now).to_contain_text(words)
        expect(now).to_contain_text("请恢复接收端")
        expect(page.get_by_role("button", name="试投递")).to_be_visible()
        page.get_by_role("link", name="告警").first.click()
        expect(page.locator("article.alert").first).to_contain_text("怎样处置")
        expect(page.get_by_text("静默", exact=True)).to_have_count(0)
        page.goto(f"/events?q={number(1)}")
        page.get_by_role("link", name=re.compile("医广")).click()
        page.get_by_role("link", name="为什么没有送达").click()
        expect(page.get_by_role("region", name="没有收到，原因")).to_contain_text("接收端没有正常应答，队列保持")
        shown = page.goto("/agencies/mianyang")
        assert shown is not None
        others = {name for one, name in AGENCIES.items() if one != "mianyang"}
        assert not [name for name in others if name in page.content()]
    parked = work.site.signed_in("lu").get("/parked").text
    assert (REFUSAL in parked, "放回所选" in parked) == (True, True)
    assert "泸州" not in work.site.signed_in("mian").get("/alerts?closed=true").text


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
        page.get_by_text("以表格查看").click()
        minute = page.get_by_role("table", name="每分钟送达和停放的件数").get_by_role("row").nth(1)
        expect(minute).to_have_text(re.compile(r"^\s*\d\d:\d\d\s*[1-9]\d*\s*\d+\s*$"), timeout=20_000)
        assert_accessible(page)
    eventually(lambda: work.state("cert-1", "mianyang") == "delivered", 20, "delivered after all")


def test_what_is_done_to_an_agency_asks_for_a_reason_and_is_recorded(work: Operations, browser: Tabs) -> None:
    """Resumed by the system administrator; its key changed by the security administrator and shown once."""
    with browser.page(work.url) as page:
        sign_in(page, "ops")
        page.goto("/agencies/nanchong")
        expect(page.get_by_text("暂停：机房搬迁")).to_be_visible()
        page.get_by_text("恢复推送", exact=True).first.click()
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


def test_an_alert_says_what_happened_and_is_silenced_with_a_reason_and_undone(work: Operations, browser: Tabs) -> None:
    """What happened, how it is now, and where to go on; who silenced it, until when, why, on record."""
    with browser.page(work.url) as page:
        sign_in(page, "ops")
        page.goto("/alerts?q=luzhou")
        alert = page.locator("article.alert", has_text="cert-1")
        expect(alert).to_contain_text("HTTP 422")
        expect(alert).to_contain_text("cert-1")
        expect(alert.get_by_text("现在", exact=True)).to_be_visible()
        expect(alert.get_by_role("link", name="事件 cert-1")).to_be_visible()
        alert.get_by_text("静默", exact=True).first.click()
        alert.get_by_label("静默多久").select_option("24")
        alert.get_by_label("理由").fill("已与单位约定周五修复")
        alert.get_by_role("button", name="静默").click()
        expect(page.get_by_role("status")).to_contain_text("已静默至")
        expect(alert).to_contain_text("已静默")
        expect(alert).to_contain_text("ops 于")
        expect(alert).to_contain_text("已与单位约定周五修复")
        page.goto("/agencies/luzhou")
        expect(page.get_by_role("region", name="未关闭的告警")).to_contain_text("已静默")
        assert work.api.done("/v1/alerts/silences")[0]["by"] == "ops"
        page.goto("/alerts?q=luzhou")
        assert_accessible(page)
        alert.get_by_text("结束静默", exact=True).first.click()
        alert.get_by_label("理由").fill("提前修好了")
        alert.get_by_role("button", name="结束静默").click()
        expect(page.get_by_role("status")).to_contain_text("静默已结束")
        expect(alert).not_to_contain_text("已静默")
    assert work.api.done("/v1/alerts/silences") == []
    ops, found = work.site.signed_in("ops"), work.site.signed_in("aud").get("/audit?action=alert.").text
    assert all(one in found for one in ("alert.silence", "已与单位约定周五修复", "alert.unsilence", "提前修好了"))
    ops.get("/alerts")
    refused = ops.post(
        "/alerts/silences", {"kind": "event-parked", "subject": "luzhou", "hours": "9999", "reason": "r"}
    )
    assert (refused.status, "至多 744" in refused.text) == (422, True)


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


def test_while_the_ledger_is_behind_no_page_looks_fresh(work: Operations) -> None:
    """It stands still (SIGSTOP) and an event is published: what is not in it yet is not denied, to nobody."""
    visitors = {who: work.site.signed_in(who) for who in ("ops", "wei", "shi")}
    pages = ["/", "/events?q=cert-late", "/events/one?id=cert-1", "/events/why?id=cert-1&agency=market"]
    asked = [(who, path) for who in visitors for path in pages]
    asked += [("ops", "/agencies/market"), ("shi", "/agencies/market")]

    def unsaid() -> list[tuple[str, str]]:
        return [(who, path) for who, path in asked if not BEHIND.search(visitors[who].get(path).text)]

    eventually(lambda: len(unsaid()) == len(asked), 30, "nothing said while it keeps up")
    work.running["ledger"].process.send_signal(signal.SIGSTOP)
    try:
        work.events.publish(work.events.prepare(ISSUED, "cert-late", SOURCE, certificate_no=number(77)))
        eventually(lambda: not unsaid(), 30, "said everywhere")
        for visitor in visitors.values():
            searched, opened = (visitor.get(path) for path in ("/events?q=cert-late", "/events/one?id=cert-late"))
            assert ("没有查到，但台账还没有收全" in searched.text, "请核对编号" in searched.text) == (True, False)
            assert (opened.status, "没有查到，但台账还没有收全" in opened.text) == (404, True)
        assert BEHIND.search(visitors["shi"].live("/live/agency/market"))
    finally:
        work.running["ledger"].process.send_signal(signal.SIGCONT)
    eventually(lambda: "cert-late" in visitors["ops"].get("/events?q=cert-late").text, 30, "in the ledger after all")
    eventually(lambda: len(unsaid()) == len(asked), 30, "said no more")


NO_ANSWER = re.compile(r'(PostgreSQL|Kafka) 没有应答，自 <time datetime="([^"]+)"')
QUICK_S = 8.0
"""Less than any wait for a server that hangs (10 s), and long enough for a busy machine."""


@dataclass
class Walk:
    """Looks at every page of the table, as who it is for."""

    work: Operations
    visitors: dict[str, Visitor]
    named: dict[str, str]

    def look(self, shown: Shown) -> tuple[Answer, float]:
        """Load a page; return it with the seconds that it took."""
        began = time.monotonic()
        answer = self.visitors[shown.who].get(shown.address.format(**self.named))
        return answer, time.monotonic() - began

    def wrong_without(self, server: Literal["PostgreSQL", "Kafka"], since: datetime) -> list[str]:
        """Return which pages don't show what they should while a server is away."""
        found = []
        for path, shown in PAGES.items():
            answer, took_s = self.look(shown)
            expected = shown.database if server == "PostgreSQL" else shown.kafka
            said = [(name, datetime.fromisoformat(at)) for name, at in NO_ANSWER.findall(answer.text)]
            if [name for name, _ in said] != [server] or abs((said[0][1] - since).total_seconds()) > 5:
                found.append(f"{path} does not say since when {server} is away: {said}")
            if took_s > QUICK_S and self.look(shown)[1] > QUICK_S:
                found.append(f"{path} took {took_s:.1f} s")
            if shows(answer) != expected:
                found.append(f"{path} shows {shows(answer)}, not {expected}")
        return found

    def wrong_after(self) -> list[str]:
        """Return which pages are not as they were."""
        answers = {path: self.look(shown)[0] for path, shown in PAGES.items()}
        return [
            f"{path}: {one.status} {shows(one)}"
            for path, one in answers.items()
            if one.status != 200 or shows(one) != "whole" or NO_ANSWER.search(one.text)
        ]


def shows(answer: Answer) -> str:
    """Return what a page shows of what it should; beside it stands the count of alerts, which has its own age."""
    if answer.status == 503:
        return SAID if "暂不可用" in answer.text else "an error"
    if answer.status != 200:
        return f"status {answer.status}"
    found = re.search("<main.*</main>", answer.text, re.DOTALL)
    page = found[0] if found else answer.text
    if "截至 <time" in page:
        return KEPT
    return PARTLY if "有一处没有应答" in page or "暂不能显示" in page else WHOLE


@pytest.fixture
def walk(work: Operations) -> Walk:
    """Return somebody of each kind at every page, all of which can be read before."""
    ops = work.site.signed_in("ops")
    parked = re.search(r"/parked/(luzhou/\d+)", ops.get("/parked").text)
    assert parked is not None
    month = f"{work.site.clock.now().astimezone(SHANGHAI):%Y-%m}"
    named = {"grant": work.grants["market"], "parked": parked[1], "month": month}
    visitors = {who: work.site.signed_in(who) for who in sorted({one.who for one in PAGES.values()})}
    found = Walk(work, visitors, named)
    assert found.wrong_after() == []
    return found


def test_every_page_has_its_line_for_outages(work: Operations) -> None:
    """A new page without one is refused here."""
    every = {one.path for router in work.site.app.state.routers for one in router.routes if "GET" in one.methods}
    assert sorted(every ^ (PAGES.keys() | ELSEWHERE.keys())) == []


@pytest.mark.parametrize("server", ["PostgreSQL", "Kafka"])
def test_while_a_server_hangs_each_page_says_so_and_keeps_what_it_can(
    walk: Walk, servers: Servers, server: Literal["PostgreSQL", "Kafka"]
) -> None:
    """It takes connections and answers nobody. No page waits for it, and all of them come back by themselves."""
    address = str(conninfo_to_dict(servers.dsn)["port"]) if server == "PostgreSQL" else servers.bootstrap_servers
    overview = PAGES["/"]
    with standing_still(int(address.rpartition(":")[2])):
        since = datetime.now(UTC)
        eventually(lambda: NO_ANSWER.search(walk.look(PAGES["/catalogue"])[0].text), 15, "said")
        for page in (overview, PAGES["/agencies"]):  # on the first the count of alerts may be marked before the rest
            eventually(lambda: shows(walk.look(page)[0]) == KEPT, 30, "numbers marked with their age")  # noqa: B023
        assert walk.wrong_without(server, since) == []
    eventually(lambda: not NO_ANSWER.search(walk.look(overview)[0].text), 15, "said no more")
    eventually(lambda: not walk.wrong_after(), 30, "every page as it was")
