"""What the demonstration does, phase by phase, and what it found."""

from __future__ import annotations

import json
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from producers.demonstration.certificates import CHENGDU, START, Publication, publications
from producers.demonstration.installation import Installation, ReceiverProcess
from producers.simulation.commands import write_month
from producers.simulation.targets import published
from schemas.contracts import load_contracts
from services.runtime.errors import HongyanError
from services.runtime.metrics import CONTROL_OFFSET, LINES

MONTH = "2025-12"
CERTIFICATES = 24
CITY = "成都市市场监管局"
SOURCE = "urn:sc:health-commission"
LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event that one agency got."""

    agency: str
    event_id: str
    type: str
    subject: str
    milliseconds: float


@dataclass(slots=True)
class Findings:
    """Everything the demonstration found."""

    deliveries: list[Delivery] = field(default_factory=list)
    expected: int = 0
    figures: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def percentile(self, share: float) -> float | None:
        """Return the nearest-rank percentile of publication to receipt, in milliseconds."""
        ordered = sorted(d.milliseconds for d in self.deliveries)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None

    def to_json(self) -> dict[str, object]:
        """Return the summary object."""
        return {
            "deliveries": len(self.deliveries),
            "expected": self.expected,
            "p50_ms": self.percentile(0.5),
            "p95_ms": self.percentile(0.95),
            "p99_ms": self.percentile(0.99),
            "figures": self.figures,
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
        }

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Note how long a phase took."""
        began = time.monotonic()
        yield
        self.seconds[phase] = time.monotonic() - began


class Scenario:
    """The demonstration's steps over a running installation."""

    def __init__(self, installation: Installation, findings: Findings) -> None:
        self._installation = installation
        self.findings = findings
        self._run = secrets.token_hex(3)
        self._receivers: list[ReceiverProcess] = []
        self._key = ""
        self._published: Sequence[Publication] = []

    def prepare(self) -> None:
        """Add the publishing department, both agencies with their receivers, and what they are entitled to."""
        health = [name for name in load_contracts().types if name.startswith("cn.gov.sc.health.")]
        department = {
            "id": f"health-{self._run}",
            "name": "省卫生健康委",
            "source": f"{SOURCE}:{self._run}",
            "types": health,
        }
        self._key = self._installation.administer("/v1/departments", department)["key"]
        province = self._installation.add_agency(f"market-{self._run}", "省市场监管局", "510000")
        city = self._installation.add_agency(f"chengdu-{self._run}", CITY, CHENGDU)
        self._receivers = [province, city]
        law = {"basis": "《医疗广告管理办法》第十二条", "scene": "医疗广告监管", "scope": "本级监管对象"}
        self._subscribe({"agency": province.agency, "types": health, **law})
        # The city asks for certificates alone: corrections and revocations of these reach it all the same.
        only_city = [{"prefix": {"division": CHENGDU[:4]}}]
        self._subscribe({"agency": city.agency, "types": [f"{START}.issued"], "filters": only_city, **law})

    def _subscribe(self, body: Mapping[str, Any]) -> None:
        self._installation.subscribe(body, f"health-{self._run}")

    def publish(self, on_change: Callable[[Sequence[Delivery]], None]) -> None:
        """Publish certificates, corrections and a revocation, and watch them arrive; raises HongyanError."""
        events = self._published = publications(load_contracts(), f"{SOURCE}:{self._run}", CERTIFICATES, self._run)
        chengdu = len(range(0, CERTIFICATES, 3))
        # The province gets all; the city its certificates, the correction of its first and the revocation of that one.
        self.findings.expected = len(events) + chengdu + 2
        self._await_effect(events[0].body)
        for event in events:
            self._installation.publish(self._key, event.body)
            on_change(self._read())

        def arrived() -> bool:
            on_change(self._read())
            return len(self._read()) >= self.findings.expected

        _wait_for(arrived, f"{self.findings.expected} 次送达 (deliveries)")
        self.findings.deliveries = self._read()
        on_change(self.findings.deliveries)

    def not_received(self) -> tuple[str, str]:
        """Return the number of a certificate that nothing followed, and the agency that did not get it."""
        city = self._receivers[-1].agency
        got = {delivery.event_id for delivery in self.findings.deliveries if delivery.agency == city}
        known = got | {event.body.get("follows") for event in self._published}
        missed = next(event for event in self._published if event.body["id"] not in known)
        return missed.body["data"]["certificate_no"], CITY

    def _await_effect(self, event: Mapping[str, Any]) -> None:
        """Wait until every process knows both agencies: what comes before an entitlement is nobody's."""
        told, installation = {receiver.agency for receiver in self._receivers}, self._installation
        _wait_for(lambda: told <= set(installation.preview(self._key, event)), "网关 (gateway)")
        known = installation.metric("gateway", CONTROL_OFFSET.name, "topic")

        def routes() -> bool:
            offsets = installation.metric("router", CONTROL_OFFSET.name, "topic")
            return bool(offsets) and all(offset >= known[topic] for topic, offset in offsets.items())

        _wait_for(routes, "路由 (router)")
        _wait_for(lambda: installation.metric("pusher", LINES.name)[""] >= len(told), "推送 (pusher)")

    def _read(self) -> list[Delivery]:
        found = []
        for receiver in self._receivers:
            for line in receiver.deliveries():
                took = datetime.fromisoformat(line["received"]) - datetime.fromisoformat(line["published"])
                milliseconds = took.total_seconds() * 1000
                found.append(Delivery(receiver.agency, line["id"], line["type"], line["subject"], milliseconds))
        return found

    def import_month(self, on_file: Callable[[str], None]) -> None:
        """Simulate December 2025 and import it with one ``hongyan import``; then wait for the count."""
        year, month = map(int, MONTH.split("-"))
        with self.findings.timed("simulate"):
            files = write_month(year, month, self._installation.data / MONTH, 1, 1.0)
        with self.findings.timed("import"):
            for file in files:
                on_file(file.name)
            self._installation.command("import", *map(str, files), "--source", f"urn:sc:window:{self._run}", "--json")
        with self.findings.timed("count"):
            self._await_count()

    def _await_count(self) -> None:
        def counted() -> bool:
            lag = json.loads(self._installation.command("lag", "--json"))
            return not any(group["lag"] for group in lag["groups"] if group["group"] == "statistics")

        _wait_for(counted, "统计 (statistics)")

    def report(self) -> None:
        """Take the bulletin from the product and put the published figures beside it."""
        section = json.loads(self._installation.command("report", MONTH, "--format", "json"))
        beside = published()[MONTH]
        counted = {figure["metric_id"]: figure for figure in section["figures"]}
        for metric_id, known in beside.items():
            figure = counted[metric_id]
            within = Decimal(known["min"]) <= Decimal(figure["exact"]) < Decimal(known["max_exclusive"])
            self.findings.figures.append(
                {**figure, "published": known["shown"], "agrees": within and figure["shown"] == known["shown"]}
            )


def _wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds; raises HongyanError that names what is late."""
    deadline, pause = time.monotonic() + LIMIT_S, threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise HongyanError(f"{LIMIT_S:.0f} 秒内没有等到：{what} (not in time)")
        pause.wait(0.05)
