"""A portal over a working installation: agencies of which each fares otherwise, and certificates sent to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from schemas.topics import Topics
from services.identity.people import Role
from services.runtime.embedded.ports import free_port
from services.runtime.embedded.servers import Servers
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import Admin
from tests.conditions import eventually
from tests.events import CORRECTED, ISSUED, REVOKED, TestEvents
from tests.portal import Portal
from tests.portal_site import PortalSite, open_portal
from tests.processes import Processes, Running
from tests.scripted_receiver import Answer, Request, ScriptedReceiver

SOURCE = "urn:sc:health-commission"
TYPES = [ISSUED, CORRECTED, REVOKED]
CONTACT = "合成联系人甲"
REFUSAL = "统一社会信用代码与执业登记不符"
AGENCIES = {
    "market": "省市场监管局",
    "chengdu": "成都市市场监管局",
    "mianyang": "绵阳市市场监管局",
    "luzhou": "泸州市市场监管局",
    "yibin": "宜宾市市场监管局",
    "leshan": "乐山市市场监管局",
    "nanchong": "南充市市场监管局",
}
"""Gets all; filters by division; its receiver is away; refuses; its grant is suspended; has none; is paused."""


def number(n: int) -> str:
    """Return a certificate's number as it is written."""
    return f"（川）医广〔2025〕第{n:07d}号"


@dataclass
class Operations:
    """The portal, its people, and what runs behind it."""

    site: PortalSite
    api: Portal
    events: TestEvents
    receivers: dict[str, ScriptedReceiver]
    running: dict[str, Running]
    grants: dict[str, str]

    @property
    def url(self) -> str:
        """Return the portal's address."""
        return self.site.url

    def certificate(self, n: int, **changes: object) -> str:
        """Have a certificate issued; return its event's id once the ledger knows it as routed."""
        event = f"cert-{n}"
        self.events.publish(
            self.events.prepare(ISSUED, event, SOURCE, certificate_no=number(n), contact_name=CONTACT, **changes)
        )
        eventually(lambda: self.verdict(event) == "routed", 30, f"{event} on the ledger")
        return event

    def verdict(self, event: str) -> str | None:
        """Return what the ledger says of an event."""
        status, answer = self.api.ask(f"/v1/events/{event}")
        return answer["events"][0]["verdict"] if status == 200 else None

    def state(self, event: str, agency: str) -> str | None:
        """Return how an event stands at an agency."""
        status, answer = self.api.ask(f"/v1/events/{event}")
        found = answer["events"][0]["agencies"] if status == 200 else []
        return next((one["state"] for one in found if one["agency"] == agency), None)


@contextmanager
def open_operations(
    servers: Servers, admin: Admin, template: str, registry_url: str, folder: Path
) -> Iterator[Operations]:
    """Start a router, a pusher, the ledger and the monitor beside a portal, and agencies with their grants."""
    processes, port = Processes(folder), free_port()
    monitor_url = f"http://127.0.0.1:{port}"
    with open_portal(servers, admin, template, registry_url, folder, monitor_url=monitor_url) as site:
        site.settings.delivery.retry_base_s, site.settings.delivery.retry_cap_s = 0.05, 0.5
        topics, kafka = Topics(site.settings.kafka.topic_prefix), connect(site.settings.kafka)
        receivers = {agency: ScriptedReceiver() for agency in AGENCIES}
        receivers["luzhou"].script = _refuse
        receivers["mianyang"].close()
        api = Portal(site.url, site.settings)
        try:
            running = {
                name: processes.start(name, site.settings, wait=False) for name in ("router", "pusher", "ledger")
            }
            running["monitor"] = processes.start("monitor", site.settings, wait=False, port=port)
            grants = _configured(api, site, receivers)
            for one in running.values():
                eventually(one.healthy, 60, f"{one.name} healthy")
            with closing(TestEvents(kafka, topics, site.settings)) as events:
                yield Operations(site, api, events, receivers, running, grants)
        finally:
            processes.end()
            for receiver in receivers.values():
                receiver.close()


def _refuse(request: Request, _earlier: int) -> Answer:
    return Answer(422, {"content-type": "text/plain; charset=utf-8"}, REFUSAL)


def _configured(api: Portal, site: PortalSite, receivers: dict[str, ScriptedReceiver]) -> dict[str, str]:
    department = {"id": "health", "name": "省卫生健康委", "source": SOURCE, "types": TYPES}
    api.done("/v1/departments", department)
    api.person({"id": "health-li", "name": "李四", "department": "health", "approves": TYPES})
    grants = {}
    for agency, name in AGENCIES.items():
        api.done("/v1/agencies", {"id": agency, "name": name, "division": "510000", "sink": receivers[agency].url})
        api.person({"id": f"{agency}-zhang", "name": "张三", "agency": agency})
        if agency != "leshan":
            filters = [{"exact": {"division": "510100"}}] if agency == "chengdu" else []
            grants[agency] = api.grant(agency, "health", TYPES, filters=filters)
    api.done(f"/v1/subscriptions/{grants['yibin']}/suspend", {"reason": "使用目的待核"})
    api.done("/v1/agencies/nanchong/suspend", {"reason": "机房搬迁"})
    site.person("ops", Role.SYSTEM, name="王运维")
    site.person("sec", Role.SECURITY, name="赵安全")
    site.person("aud", Role.AUDIT, name="钱审计")
    site.person("stat", Role.STATISTICIAN, name="孙统计")
    site.person("shi", name="市场监管 周", agency="market")
    site.person("wei", name="卫健 吴", department="health")
    return grants
