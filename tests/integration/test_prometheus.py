"""The shipped rules and dashboards on a real Prometheus that scrapes real processes: each alert fires in a situation
that was provoked for real, and clears when that is mended.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from schemas.codec import Codec
from schemas.contracts import load_contracts
from schemas.registry_client import RegistryClient
from schemas.topics import Topics
from schemas.validation import ValidationRules
from services.quarantine.desk import Correction, Desk
from services.quarantine.parked import ParkingPlace
from services.runtime import metrics
from services.runtime.clock import SystemClock
from services.runtime.embedded.ports import free_port
from services.runtime.kafka.port import Committed, Kafka, Partition
from services.runtime.settings import DeliverySettings, KafkaSettings, MonitorSettings, SecuritySettings, Settings
from tests.broker import Broker
from tests.collector import Collector
from tests.conditions import eventually
from tests.configuration import Configuration
from tests.conftest import open_folder
from tests.dashboards import expressions
from tests.events import CORRECTED, ISSUED, SOURCE, TestEvents
from tests.processes import Processes, Running
from tests.prometheus import CONFIGURATION, Prometheus, rules
from tests.required import missing
from tests.scripted_receiver import Answer, Request, ScriptedReceiver

pytestmark = pytest.mark.servers
KEY = "hyk_test-key-of-the-department"
RECEIVING = ("well", "dead", "slow", "picky")
FIRES_S, CLEARS_S = 45.0, 75.0
PAUSE = threading.Event()
OBJECTIVE_S = 0.5


@dataclass
class Stack:
    """An installation on a broker of its own, watched by Prometheus."""

    broker: Broker
    kafka: Kafka
    settings: Settings
    processes: Processes
    configuration: Configuration
    events: TestEvents
    collector: Collector
    prometheus: Prometheus
    receivers: dict[str, ScriptedReceiver]
    running: dict[str, Running] = field(default_factory=dict)
    fired: set[str] = field(default_factory=set)
    cleared: set[str] = field(default_factory=set)
    number: int = 0

    def fires(self, name: str, **labels: str) -> None:
        """Wait until an alert fires for these."""
        eventually(lambda: self._fires(name, labels), FIRES_S, f"{name} fires; {self.prometheus.folder}")
        self.fired.add(name)

    def clears(self, name: str, **labels: str) -> None:
        """Wait until it does no more."""
        eventually(lambda: not self._fires(name, labels), CLEARS_S, f"{name} clears; {self.prometheus.folder}")
        self.cleared.add(name)

    def resubmit(self, stage: str, offset: int) -> None:
        """Make a certificate of a dead letter."""
        contracts, codec = load_contracts(), Codec(RegistryClient(self.settings.registry.url, 10.0))
        desk = Desk(self.kafka, Topics(), contracts, codec, ValidationRules(), SystemClock())
        attributes: dict[str, str | None] = {"id": "mended", "source": SOURCE, "type": ISSUED}
        desk.resubmit(stage, offset, Correction("t", "no event", attributes, contracts.types[ISSUED].sample))

    def _fires(self, name: str, labels: dict[str, str]) -> bool:
        return any(labels.items() <= one.items() for one in self.prometheus.firing().get(name, []))

    def publish(self, count: int) -> int:
        """Publish certificates in one call and return the answer's status, 0 without one."""
        data = load_contracts().types[ISSUED].sample
        batch = []
        for _ in range(count):
            self.number += 1
            named = {"specversion": "1.0", "id": f"e{self.number}", "type": ISSUED}
            batch.append(named | {"data": data | {"certificate_no": f"（川）医广〔2025〕第{self.number:07d}号"}})
        request = urllib.request.Request(
            f"{self.settings.gateway.url}/v1/events",
            json.dumps(batch).encode(),
            {"Authorization": f"Bearer {KEY}", "Content-Type": "application/cloudevents-batch+json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


def _settings(folder: Path, address: str, collector: Collector) -> Settings:
    settings = Settings(data_dir=folder)
    settings.kafka = KafkaSettings(bootstrap_servers=address)
    settings.delivery = DeliverySettings(
        allowed_networks=["127.0.0.0/8"], retry_base_s=0.05, retry_cap_s=0.5, require_verification=False
    )
    key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    settings.security = SecuritySettings(master_key=SecretStr(key), admin_key=SecretStr("k"))
    settings.gateway.url = f"http://127.0.0.1:{free_port()}"
    settings.gateway.acknowledge_timeout_s = 2.0
    settings.monitor = MonitorSettings(
        url=f"http://127.0.0.1:{free_port()}",
        period_s=0.5,
        objective_s=OBJECTIVE_S,
        probe_every_s=0.5,
        probe_late_s=1.0,
        probe_lost_s=30.0,
    )
    settings.tracing.otlp_endpoint = collector.url
    return settings


def test_promtool_finds_nothing_wrong() -> None:
    """Prometheus' own check of the shipped configuration and rules, as they are."""
    reason = missing("prometheus", ["prometheus", "promtool"], "prometheus")
    if reason is not None:
        pytest.skip(reason)
    done = subprocess.run(["promtool", "check", "config", CONFIGURATION], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(rules())} rules found" in done.stdout


@contextmanager
def publishing(stack: Stack) -> Iterator[None]:
    """Publish one certificate a second meanwhile, whatever the answers are."""
    stop = threading.Event()

    def publish() -> None:
        while not stop.wait(1.0):
            stack.publish(1)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Start everything once for this module."""
    reason = missing("prometheus", ["prometheus", "promtool"], "prometheus")
    if reason is not None:
        pytest.skip(reason)
    with open_folder() as folder:
        broker, topics, collector = Broker(folder), Topics(), Collector()
        processes, prometheus = Processes(folder), Prometheus(folder)
        receivers = {name: ScriptedReceiver() for name in RECEIVING}
        try:
            broker.start()
            kafka = broker.connect()
            with closing(kafka.admin()) as admin:
                feeds = (spec for name in (*RECEIVING, "puller") for spec in topics.agency_specs(name))
                admin.ensure_topics([*topics.base_specs(load_contracts().domains()), *feeds])
            settings = _settings(folder, broker.kafka.address, collector)
            registry = processes.start("registry", settings)
            settings.registry.url = registry.url
            with (
                closing(Configuration(kafka, topics, settings)) as configuration,
                closing(TestEvents(kafka, topics, settings)) as events,
            ):
                configuration.department("d", SOURCE, KEY, [ISSUED])
                for name, receiver in receivers.items():
                    configuration.agency(name, receiver.url)
                    configuration.subscription(f"sub-{name}", name, [ISSUED])
                configuration.agency("puller", "http://127.0.0.1:1/")
                configuration.access("puller", "hya_puller")
                made = Stack(
                    broker, kafka, settings, processes, configuration, events, collector, prometheus, receivers
                )
                _start(made, registry)
                yield made
        finally:
            processes.end()
            prometheus.end()
            broker.kill()
            collector.close()
            for receiver in receivers.values():
                receiver.close()


def _start(stack: Stack, registry: Running) -> None:
    ports = {
        "gateway": int(stack.settings.gateway.url.rpartition(":")[2]),
        "router": None,
        "pusher": None,
        "monitor": int(stack.settings.monitor.url.rpartition(":")[2]),
        "alerter": None,
    }
    stack.running["registry"] = registry
    for name, port in ports.items():
        stack.running[name] = stack.processes.start(name, stack.settings, wait=False, port=port)
    for one in stack.running.values():
        eventually(one.healthy, 60, one.name)
    stack.prometheus.start(stack.running)
    eventually(lambda: stack.prometheus.query('hongyan_probe_state{state="ok"} == 1'), 40, "the probe comes through")


def test_every_process_exposes_what_is_documented_and_nothing_else(stack: Stack) -> None:
    """Names, kinds and labels of every page are those of the list; what the list says of a process is on its page."""
    assert stack.publish(3) == 202
    eventually(lambda: len(stack.receivers["well"].accepted) >= 3, 20, "delivered")
    for name, running in stack.running.items():
        with urllib.request.urlopen(f"{running.url}/metrics", timeout=5) as page:
            families = list(text_string_to_metric_families(page.read().decode()))
        told = {spec.name.removesuffix("_total"): spec for spec in metrics.ALL if name in spec.processes}
        assert {family.name for family in families} == told.keys(), name
        for family in families:
            spec = told[family.name]
            assert family.type == spec.kind, family.name
            # Those of the process itself are the library's.
            assert family.documentation == spec.help or family.name.startswith("process_"), family.name
            for sample in family.samples:
                assert sample.labels.keys() == set(spec.series()[sample.name]), sample.name


def test_every_panel_of_every_dashboard_is_answered(stack: Stack) -> None:
    """By Prometheus itself, without an error; what a healthy installation has figures for has them."""
    empty = {
        "时限内送达的比例，最低十个",  # until an event with a legal limit has been taken
        "时限内",
        "状态不正常的单位",
        "告警",
        "按渠道",
        "事件时间到业务回执",
        "拒收的事件",
        "时钟偏差",
        "错误",
        "中断",
        "状态不正常的组",
    }

    def silent() -> set[str]:
        found = set()
        for _, panel, expression in expressions():
            asked = re.sub(r"\$__rate_interval|\$__range", "10s", expression.replace('"$agency"', '"well"'))
            if not stack.prometheus.query(asked.replace('"$process"', '".*"')):
                found.add(panel.partition(" ")[0])
        return found - empty

    eventually(lambda: not silent(), 20, "every panel has figures")


def test_receivers_and_events_that_are_in_trouble(stack: Stack) -> None:
    """A receiver is closed, one slow, one refuses; an agency does not pull; a record is no event; spans are refused."""
    old = stack.events.certificate("old", 9_000_001, CORRECTED)
    published = (datetime.now(UTC) - timedelta(days=90)).isoformat().encode()
    headers = [(name, published if name == "ce_recordedtime" else text) for name, text in old.headers]
    placed = stack.events.feed("puller", replace(old, headers=headers))[0]

    def slowly(_request: Request, _earlier: int) -> Answer:
        PAUSE.wait(1.5 * OBJECTIVE_S)
        return Answer()

    stack.receivers["dead"].close()
    stack.receivers["slow"].script = slowly
    stack.receivers["picky"].script = lambda _request, _earlier: Answer(422)
    stack.collector.status = 400
    stack.events.publish_raw(Topics().events("health"), b"no event")
    with publishing(stack):
        stack.fires("HongyanEventParked", agency="picky", kind="event-parked")
        stack.fires("HongyanDeadLetters", stage="router", kind="dead-letters")
        stack.fires("HongyanLagBurning", agency="slow", window="1h")
        stack.fires("HongyanLineHeld", agency="dead", kind="line-held")
        stack.fires("HongyanAgencyBehind", agency="puller")
        stack.fires("HongyanEventOverdue", agency="puller")
        stack.fires("HongyanTracesLost", process="pusher")

    stack.receivers["dead"].open()
    stack.receivers["slow"].script = stack.receivers["picky"].script = lambda _request, _earlier: Answer()
    stack.collector.status = 200
    with closing(stack.kafka.admin()) as admin:
        group, feed = Topics().agency_group("puller"), Partition(placed.topic, 0)
        admin.set_group_offsets(group, {feed: Committed(placed.offset + 1)})
    stack.clears("HongyanLineHeld", agency="dead")
    stack.clears("HongyanAgencyBehind", agency="puller")
    stack.clears("HongyanEventOverdue", agency="puller")
    stack.clears("HongyanTracesLost", process="pusher")
    stack.clears("HongyanLagBurning", agency="slow", window="1h")

    # Long after the last of them: what nobody has seen to still fires.
    stack.fires("HongyanEventParked", agency="picky")
    stack.fires("HongyanDeadLetters", stage="router")
    place = ParkingPlace(stack.kafka, Topics(), SystemClock())
    offsets = [one.offset for one in place.list("picky") if one.replayed is None]
    assert place.replay_all("picky", offsets, "mended") == {}
    stack.resubmit("router", 0)
    stack.clears("HongyanEventParked", agency="picky")
    stack.clears("HongyanDeadLetters", stage="router")


def test_a_killed_router(stack: Stack) -> None:
    """It does not answer, its group stands, and the probe does not come through."""
    router = stack.running["router"]
    router.kill()
    stack.fires("HongyanProcessDown", process="router")
    stack.fires("HongyanProbeFailed")
    stack.fires("HongyanGroupTroubled", group="router")
    stack.running["router"] = stack.processes.start("router", stack.settings, port=router.port)
    stack.clears("HongyanProcessDown", process="router")
    stack.clears("HongyanProbeFailed")
    stack.clears("HongyanGroupTroubled", group="router")


def test_a_broker_that_stands_and_one_that_is_killed(stack: Stack) -> None:
    """Publishing is slow, then fails; nobody measures, and who can't says so."""
    with publishing(stack):
        stack.broker.signal(signal.SIGSTOP)
        stack.fires("HongyanPublishSlow")
        stack.fires("HongyanRequestsFailing", process="gateway")
        stack.broker.kill()
        stack.fires("HongyanUnwatched")
        stack.fires("HongyanServerAway", process="monitor")
    stack.broker.start()
    stack.clears("HongyanServerAway")
    stack.clears("HongyanUnwatched")
    stack.clears("HongyanRequestsFailing")
    stack.clears("HongyanPublishSlow")


def test_every_alert_has_fired_and_cleared(stack: Stack) -> None:
    """No rule is shipped that was not seen at work above."""
    names = {rule["alert"] for rule in rules()}
    assert (stack.fired, stack.cleared) == (names, names)
