"""The pages on which people decide, in a real browser on a whole installation: each task as somebody does it.

One installation for all: an agency whose receiver refuses one event, a department, and people of every kind.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date

import pytest
from playwright.sync_api import Page, expect

from consumers.receiver.kit import Receiver, WsgiApp
from producers.publishing import Prepared
from schemas.codec import Codec
from schemas.contracts import load_contracts
from schemas.registry_client import RegistryClient
from schemas.topics import Topics
from services.identity.people import Role
from services.runtime.kafka.port import Kafka
from tests.conditions import eventually
from tests.configuration import SECRET
from tests.events import ISSUED, REVOKED, TestEvents, document, read_all
from tests.portal import LAW
from tests.portal_site import PortalSite, Tabs, Visitor, assert_accessible, assert_fits, looks, shoot, sign_in
from tests.processes import Processes
from tests.scripted_receiver import Answer, Request, ScriptedReceiver
from tests.webservers import serving_wsgi

pytestmark = pytest.mark.servers
REFUSED, LETTER, LATER = "c-refused", "c-letter", "c-later"
DECEMBER = "2025-12-{day:02d}T09:00:00+08:00"


@dataclass
class World:
    """The installation, the receiver of its agency, and what was granted."""

    site: PortalSite
    topics: Topics
    kafka: Kafka
    events: TestEvents
    receiver: ScriptedReceiver
    codec: Codec
    mended: list[bool] = field(default_factory=list)
    grant: str = ""

    def certificate(self, event_id: str, number: int, day: int = 3) -> Prepared:
        """Return a certificate of December 2025, with a personal field."""
        at = DECEMBER.format(day=day)
        return self.events.prepare(
            ISSUED,
            event_id,
            source="urn:h",
            time=at,
            certificate_no=f"（川）医广〔2025〕第{number:07d}号",
            issued_on=f"2025-12-{day:02d}",
            valid_from=f"2025-12-{day:02d}",
            contact_name="欧阳合成",
        )

    def put_aside(self, event_id: str, number: int, day: str = "2025-12-03") -> None:
        """Put a letter aside as the router does with an event whose data is wrong: it is valid before it was issued."""
        event = self.certificate(event_id, number)
        data = self.codec.decode(event.value).data | {"valid_from": date(2025, 10, 1)}
        contract = load_contracts().types[ISSUED]
        value = self.codec.encode(contract.subject, contract.schema, data)
        kept = {name: text.decode() for name, text in event.headers} | {"ce_time": f"{day}T09:00:00+08:00"}
        ours = {"hongyan-stage": "router", "hongyan-reason": "有效期起早于核发日期 (begins before the day of issue)"}
        self.events.publish_raw(self.topics.deadletter("router"), value, event.key, kept | ours)

    def verdicts(self) -> dict[str, str]:
        """Return the router's verdict on each event."""
        found = [document(record) for record in read_all(self.kafka, self.topics.ledger_routed, 12)]
        return {str(entry["id"]): str(entry["verdict"]) for entry in found}

    def answer(self, request: Request, _earlier: int) -> Answer:
        """Refuse one event until the receiver is mended."""
        return Answer(422) if request.id == REFUSED and not self.mended else Answer()


@pytest.fixture(scope="module")
def world(portal: PortalSite, kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Return an installation at work: six certificates of December, one of them a dead letter, one parked."""
    processes = Processes(tmp_path_factory.mktemp("processes"))
    topics = Topics(portal.settings.kafka.topic_prefix)
    portal.settings.reporting.bulletin = tmp_path_factory.mktemp("bulletin")
    codec = Codec(RegistryClient(portal.settings.registry.url))
    found = World(portal, topics, kafka, TestEvents(kafka, topics, portal.settings), ScriptedReceiver(), codec)
    found.receiver.script = found.answer
    agency = {"id": "market", "name": "省市场监管局", "division": "510000", "sink": found.receiver.url}
    department = {"id": "health", "name": "省卫生健康委", "source": "urn:h", "types": [ISSUED, REVOKED]}
    for path, body in (("/v1/agencies", agency), ("/v1/departments", department)):
        assert portal.api("POST", path, body).status == 201
    portal.everyone()
    portal.person("market-zhang", agency="market", name="张三")
    portal.person("health-li", department="health", name="李四", approves=[ISSUED, REVOKED])
    try:
        for name in ("router", "pusher", "statistics"):
            processes.start(name, portal.settings, wait=False)
        found.events.publish(*(found.certificate(f"c-{n}", n, day=n) for n in (2, 3, 4)))
        found.put_aside(LETTER, 40)
        for one in processes.running:
            eventually(one.healthy, 40, one.name)
        yield found
    finally:
        processes.end()
        found.events.close()
        found.receiver.close()


@contextmanager
def seated(world: World, browser: Tabs, account: str, size: str = "wide", theme: str = "light") -> Iterator[Page]:
    """Give a tab of somebody who has signed in."""
    with browser.page(world.site.url, size, theme) as page:
        sign_in(page, account)
        yield page


def arrive(page: Page, part: str) -> None:
    """Wait for the result of long work; where it takes its time, its page says when it is there, and leads to it."""
    page.wait_for_url(re.compile(f"/jobs/|{part}"))
    if "/jobs/" in page.url:
        page.get_by_role("link", name="看结果").click(timeout=60_000)
        page.wait_for_url(re.compile(part))


def test_a_grant_is_drafted_tried_and_approved_by_another_person(world: World, browser: Tabs) -> None:
    """The agency applies in the form and may not approve; the owner tries December, sees samples, and approves."""
    with seated(world, browser, "market-zhang") as page:
        page.goto("/subscriptions/new")
        page.get_by_text("health · ").click()
        page.locator(f"input[name='type/{ISSUED}']").check()
        page.get_by_role("button", name="更新字段表").first.click()
        page.get_by_label("联系人").select_option("mask")
        page.get_by_role("button", name="保存草稿").click()
        expect(page.get_by_role("alert")).to_contain_text("必填")
        assert_accessible(page)
        for name in ("basis", "scene", "scope", "method"):
            page.locator(f"#{name}").fill(LAW[name])
        page.get_by_label("使用时限").fill("2099-01-01T00:00")
        page.get_by_role("button", name="保存草稿").click()
        expect(page.get_by_role("status").first).to_contain_text("草稿已保存")
        world.grant = page.url.rpartition("/")[2]
        submitting = page.locator("#do-submit")
        submitting.get_by_label("理由").fill("申请")
        submitting.get_by_role("button", name="提交").click()
        expect(page.get_by_text("您是申请人，须由数据提供方的另一人批准")).to_be_visible()
        expect(page.locator("#do-approve")).to_have_count(0)
    with seated(world, browser, "health-li") as page:
        page.goto("/subscriptions?state=submitted")
        page.get_by_role("link", name=world.grant).click()
        page.get_by_label("自", exact=True).fill("2025-12-01")
        page.get_by_label("至（不含）").fill("2026-01-01")
        page.get_by_role("main").get_by_role("button", name="试算").click()
        arrive(page, "/dry-run/")
        expect(page.locator(".cards")).to_contain_text("3")
        expect(page.get_by_role("row", name="2025-12-03 1")).to_be_visible()
        expect(page.get_by_text("欧***").first).to_be_visible()
        assert_accessible(page)
        shoot(page, "subscription-trial")
        page.get_by_role("link", name="去决定").click()
        approving = page.locator("#do-approve")
        approving.get_by_label("理由").fill("依法共享")
        approving.get_by_role("button", name="批准").click()
        expect(page.get_by_role("status").first).to_contain_text("已批准")
        expect(page.locator("#history ~ ol li").first).to_contain_text("依法共享")
    viewed = world.site.signed_in("a-audit").get("/audit").text
    assert f"subscription/{world.grant}/dry-run" in viewed
    world.events.publish(world.certificate(LATER, 20), world.certificate(REFUSED, 21))
    eventually(lambda: LATER in world.receiver.accepted, 30, "the event at the receiver")


def test_a_parked_event_is_put_back_by_the_keyboard_alone(world: World, browser: Tabs) -> None:
    """The agency's person finds what its receiver refused, sees all of it, and puts it back with a reason."""
    with seated(world, browser, "market-zhang") as page:

        def parked() -> bool:
            page.goto("/parked")
            return page.get_by_text(REFUSED).count() > 0

        eventually(parked, 30, "the parked event")
        page.get_by_role("link", name=REFUSED).click()
        expect(page.get_by_text("欧***")).to_be_visible()
        world.mended.append(True)
        page.goto("/parked")
        page.locator("body").press("Tab")
        expect(page.get_by_role("link", name="跳到正文")).to_be_focused()
        chosen = page.get_by_role("checkbox", name=f"选 {REFUSED}")
        for _ in range(60):
            if chosen.evaluate("element => element === document.activeElement"):
                break
            page.keyboard.press("Tab")
        page.keyboard.press("Space")
        for _ in range(10):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.name") == "reason":
                break
        page.keyboard.type("接收端已修好")
        page.keyboard.press("Enter")
        arrive(page, "/replayed/")
        expect(page.get_by_role("heading", name="已放回 1 个")).to_be_visible()
        eventually(lambda: REFUSED in world.receiver.accepted, 30, "the event at the receiver")
        page.goto("/parked?replayed=true")
        expect(page.get_by_text("接收端已修好（market-zhang）")).to_be_visible()


def test_who_operates_sees_no_personal_field_and_their_owners_do(world: World) -> None:
    """Of a parked event the agency's people, of a dead letter the publisher's; each look is on record."""
    system, zhang, li = (world.site.signed_in(one) for one in ("a-system", "market-zhang", "health-li"))
    letter = system.get("/dead-letters/router/0")
    assert "欧阳合成" not in letter.text
    assert "个人与敏感字段只给发布部门看" in letter.text
    assert "欧阳合成" in li.get("/dead-letters/router/0").text
    parked = re.search(r"/parked/market/\d+", system.get("/parked?replayed=true").text)
    assert parked is not None
    assert "欧***" not in system.get(parked[0]).text
    assert "欧***" in zhang.get(parked[0]).text
    recorded = world.site.signed_in("a-audit").get("/audit").text
    assert "dead-letter/router/0" in recorded
    assert zhang.get("/dead-letters").status == 403
    assert li.get("/parked").status == 403


def test_a_month_is_refused_its_dead_letter_corrected_and_then_closed(world: World, browser: Tabs) -> None:
    """The statistician is told what stands against it; the publisher corrects the letter; then it is closed."""
    with seated(world, browser, "a-statistician") as page:
        page.goto("/month/2025-12/decide")
        expect(page.locator(".refusals")).to_contain_text("死信 router/0")
        page.get_by_label("理由（记录在案）").fill("按月关账")
        page.get_by_role("button", name="关账", exact=True).click()
        arrive(page, "/decided/")
        expect(page.get_by_role("alert")).to_contain_text("没有关账")
        expect(page.get_by_label("有不符事项仍要关账的理由")).to_be_visible()
        assert_accessible(page)
        shoot(page, "month-refused")
    with seated(world, browser, "health-li") as page:
        page.goto("/dead-letters")
        page.get_by_role("link", name="router/0").click()
        page.get_by_label("理由（记录在案）").fill("有效期起改为核发之日")
        page.get_by_role("button", name="更正并重新提交").click()
        expect(page.get_by_role("alert")).to_contain_text("/data/valid_from")
        assert_accessible(page)
        page.locator("#data-valid_from").fill("2025-12-03")
        page.get_by_role("button", name="更正并重新提交").click()
        expect(page.get_by_role("status")).to_contain_text("在事件日志上了")
        eventually(lambda: world.verdicts().get(LETTER) == "routed", 30, "the corrected event routed")
    with seated(world, browser, "a-statistician") as page:

        def nothing() -> bool:
            page.goto("/month/2025-12/decide")
            return page.locator(".refusals").count() == 0

        eventually(nothing, 60, "nothing against closing")
        page.get_by_label("理由（记录在案）").fill("按月关账")
        page.get_by_role("button", name="关账", exact=True).click()
        arrive(page, "/decided/")
        expect(page.get_by_role("heading", name="2025-12 · 已关账")).to_be_visible()
        page.get_by_role("link", name="月报：预览与下载").click()
        expect(page.frame_locator("iframe").get_by_role("heading").first).to_be_visible()
        with page.expect_download() as download:
            page.get_by_role("link", name="PDF").click()
        assert download.value.path().read_bytes().startswith(b"%PDF")
        page.goto("/month/2025-12")
        expect(page.get_by_text("关账数").first).to_be_visible()


def test_a_month_with_objections_is_closed_with_a_reason_of_its_own(world: World) -> None:
    """And not without; who did it and why is kept beside the month."""
    world.put_aside("c-november", 41, "2025-11-03")
    visitor = world.site.signed_in("a-statistician")
    form = {"choice": "close", "reason": "按月关账"}
    assert follow(visitor, visitor.post("/month/2025-11/decide", form).location).count("没有关账") == 1
    said = follow(visitor, visitor.post("/month/2025-11/decide", form | {"override": "死信与本月无关"}).location)
    assert "2025-11 · 已关账" in said
    assert "死信与本月无关" in visitor.get("/month/2025-11").text
    assert "month.close" in world.site.signed_in("a-audit").get("/audit").text
    for account in ("market-zhang", "health-li", "a-security"):
        assert world.site.signed_in(account).get("/month/2025-11").status == 403
    assert world.site.signed_in("a-system").post("/month/2025-11/decide", form).status == 403


def follow(visitor: Visitor, path: str) -> str:
    """Return what work that was begun leads to."""

    def ended() -> str | None:
        answer = visitor.get(path)
        if answer.status != 303:
            return None if "data-live" in answer.text else answer.text
        return follow(visitor, answer.location)

    return eventually(ended, 30, path)


PAGES = {
    "market-zhang": ["/subscriptions", "/subscriptions/new", "/subscriptions/{grant}", "/parked", "/events/why"],
    "a-system": ["/dead-letters?state=corrected", "/dead-letters", "/dead-letters/router/1", "/parked?replayed=true"],
    "a-statistician": [
        "/catalogue",
        f"/catalogue/{ISSUED}",
        "/month",
        "/month/2025-12",
        "/month/2025-12/figures/items_handled",
        "/month/2025-12/decide",
        "/month/2025-12/report",
    ],
}


@pytest.mark.parametrize("account", PAGES)
@pytest.mark.parametrize(("language", "theme", "size"), looks())
def test_every_page_can_be_read_by_everybody(
    world: World, browser: Tabs, account: str, language: str, theme: str, size: str
) -> None:
    """In both languages, light and dark, on a desk and on a phone: nothing that axe complains of, nothing too wide."""
    with seated(world, browser, account, size, theme) as page:
        if language == "en":
            page.get_by_role("button", name="English").click()
        for path in PAGES[account]:
            page.goto(path.format(grant=world.grant))
            assert_fits(page)
            assert_accessible(page)
            shoot(
                page,
                f"{path.strip('/').format(grant='one').replace('/', '-').replace('?', '-')}-{language}-{theme}-{size}",
            )


def test_a_right_answer_to_the_challenge_promises_no_delivery_to_who_is_paused_or_pulls(portal: PortalSite) -> None:
    """It says that delivery begins only where it does."""
    portal.person("ops", Role.SYSTEM)
    ops, keys, begins = portal.signed_in("ops"), [SECRET], "接收端答对了签名质询，开始推送。"

    def verified() -> str:
        ops.get("/agencies/paused")
        assert ops.post("/agencies/paused/verify").status == 303
        return ops.get("/agencies/paused").text

    with serving_wsgi(WsgiApp(Receiver(keys, lambda _: None))) as url:
        body = {"id": "paused", "name": "某市监局", "division": "510000", "sink": url}
        keys.append(json.loads(portal.api("POST", "/v1/agencies", body).text)["secret"])
        assert begins in verified()
        assert ops.post("/agencies/paused/pause", {"reason": "机房搬迁"}).status == 303
        shown = verified()
        assert ("接收端答对了签名质询。" in shown, begins in shown) == (True, False)
        assert ops.post("/agencies/paused/resume", {"reason": "已就绪"}).status == 303
        access = {"channel": "pull", "reason": "改为自行拉取"}
        assert portal.api("POST", "/v1/agencies/paused/access/channel", access).status == 200
        assert begins not in verified()
