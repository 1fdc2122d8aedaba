"""Alerts on real servers: they reach people by mail and webhook whatever dies meanwhile, and end with the trouble."""

from __future__ import annotations

import base64
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
import yaml
from pydantic import SecretStr
from standardwebhooks import Webhook

from consumers.alerter.logs import Logs, Writing
from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.alerting.feed import CLEARED, RAISED
from services.portal.alerts import Alerts, SilenceBody
from services.runtime.alerts import MEANINGS, Alert, AlertKind, current
from services.runtime.clock import SystemClock
from services.runtime.database import dsn_of
from services.runtime.embedded.ports import free_port
from services.runtime.embedded.postgres import EmbeddedPostgres
from services.runtime.kafka.port import Kafka
from services.runtime.settings import AlertingSettings, Settings, as_environment, with_environment
from services.runtime.supervisor import Supervisor
from tests.broker import Broker
from tests.certificates import Authority
from tests.conditions import eventually
from tests.configuration import SECRET, Configuration
from tests.conftest import OwnTopics, open_folder
from tests.events import ISSUED, SOURCE, TestEvents, attribute, read_all
from tests.hand_ledger import HandLedger
from tests.mailbox import Mailbox
from tests.processes import Processes, Running
from tests.scripted_receiver import Answer, Request, ScriptedReceiver
from tests.standstill import standing_still

pytestmark = pytest.mark.servers
HELD = "队列保持"
GRAVE = {"warning": "警告", "critical": "紧急"}
SAID = {"raised": "", "repeated": "仍未解决 · ", "grew": "加重 · ", "resolved": "已解除 · "}
LOST = """
INSERT INTO statistics_decision (month, revision, state, decided_by, reason, positions)
VALUES (202510, 1, 'closed', '张三', '按月关账', '{"events.window.v1/0": 30}');
INSERT INTO statistics.consumer_offset (consumer, topic, partition, next_offset, began)
VALUES ('%s', 'events.window.v1', 0, 40, 30);
"""


class Desk:
    """Who is on duty: a mailbox and a webhook, and a monitor and an alerter that tell them."""

    def __init__(self, settings: Settings, processes: Processes, mailbox: Mailbox, hook: ScriptedReceiver) -> None:
        self.settings = settings
        self.mailbox = mailbox
        self.hook = hook
        self._processes = processes
        self._alerter = None
        routes = settings.data_dir / "alerts.yaml"
        route = {"name": "值班", "mail": ["duty@example.org"], "webhook": {"url": hook.url, "secret": SECRET}}
        routes.write_text(yaml.safe_dump({"routes": [route]}, allow_unicode=True), encoding="utf-8")
        settings.alerting = AlertingSettings(
            routes=routes,
            period_s=0.2,
            slow_period_s=1.0,
            wait_s=0.3,
            settle_s=1.0,
            news_s=1.0,
            repeat_s=2.0,
            repeat_cap_s=2.0,
            away_s=2.0,
            behind_s=3600,
            disk_free_percent=0.0,
            disk_urgent_percent=0.0,
            smtp_host="127.0.0.1",
            smtp_port=mailbox.port,
            smtp_security="none",
        )
        settings.monitor.probe_every_s = 0

    def watch(self) -> None:
        """Start a monitor."""
        monitor = self._processes.start("monitor", self.settings)
        self.settings.monitor.url = monitor.url

    def start(self) -> None:
        """Start the alerter, or start it again."""
        self._alerter = self._processes.start("alerter", self.settings)

    def kill(self) -> None:
        """SIGKILL the alerter."""
        assert self._alerter is not None
        self._alerter.kill()

    def mail(self, *words: str, within_s: float = 60) -> str:
        """Wait for a mail whose subject holds these words, and for the webhook to tell the same; return the subject."""
        found = eventually(lambda: self.mailbox.subjects(*words), within_s, f"a mail of {words}")[0]
        eventually(lambda: found in self.posted(), within_s, f"the same by webhook: {found}")
        return found

    def posted(self) -> set[str]:
        """Return what the webhook was told, in the words of a mail's subject."""
        told = [request.event["data"] for request in list(self.hook.requests)]
        return {
            f"【鸿雁·{GRAVE[one['severity']]}】{SAID[one['reason']]}{one['subject']}：{one['title']}" for one in told
        }

    def posts(self, kind: AlertKind) -> list[dict[str, Any]]:
        """Return what the webhook was posted about a kind of trouble, each signed well."""
        found = []
        for request in list(self.hook.requests):
            Webhook(SECRET).verify(request.body, request.headers)
            if request.event["data"]["kind"] == kind:
                found.append(request.event["data"] | {"id": request.headers["webhook-id"]})
        return found


@pytest.fixture
def desk(installation: Settings, processes: Processes) -> Iterator[Desk]:
    """Somebody on duty."""
    hook = ScriptedReceiver()
    with Mailbox() as mailbox:
        yield Desk(installation, processes, mailbox, hook)
    hook.close()


def states(kafka: Kafka, topics: Topics) -> dict[str, str]:
    """Return the state of every alert by its kind and subject, as the log has it."""
    found = current(Alert.from_bytes(record.value) for record in read_all(kafka, topics.alerts, 1))
    return {one.group: one.state for one in reversed(found)}


def test_a_dead_receiver_is_told_repeated_over_a_killed_alerter_and_told_to_be_back(
    kafka: Kafka,
    own: OwnTopics,
    events: TestEvents,
    configuration: Configuration,
    processes: Processes,
    desk: Desk,
) -> None:
    """Mail and signed webhook; the killed alerter goes on with the next message, and says nothing twice.

    Of another dead one, which is silenced, nobody hears; it is on record all the same.
    """
    receiver = ScriptedReceiver()
    own.ensure_agency("market", "quiet")
    for agency in ("market", "quiet"):
        configuration.agency(agency, receiver.url)
    receiver.close()
    silences = Alerts(kafka, own, SystemClock())
    silences.silence(SilenceBody(kind=AlertKind.LINE_HELD, subject="quiet", hours=1, reason="检修"))
    processes.start("pusher", desk.settings)
    desk.watch()
    desk.start()
    events.feed("market", events.certificate("e1", 1))
    events.feed("quiet", events.certificate("e2", 2))
    assert "market：接收单位无应答" in desk.mail(HELD)
    eventually(lambda: len(desk.posts(AlertKind.LINE_HELD)) >= 2, 20, "a repetition")
    desk.kill()
    before = len(desk.posts(AlertKind.LINE_HELD))
    desk.start()
    eventually(lambda: len(desk.posts(AlertKind.LINE_HELD)) >= before + 2, 20, "repetitions after the kill")
    open_now = silences.rows(everything=False, agency="quiet", limit=10)
    assert [(row["kind"], row["silence"]["reason"]) for row in open_now] == [("line-held", "检修")]
    receiver.open()
    desk.mail("已解除", HELD)
    eventually(lambda: desk.posts(AlertKind.LINE_HELD)[-1]["reason"] == "resolved", 20)
    posts = desk.posts(AlertKind.LINE_HELD)
    numbers = {post["id"]: post["number"] for post in posts}
    assert sorted(numbers.values()) == list(range(1, len(numbers) + 1))
    assert len(posts) - len(numbers) <= 1, "the one open at the kill may come twice, under its id"
    assert [post["reason"] for post in posts].count("raised") == 1
    assert {post["subject"] for post in posts} == {"market"}
    eventually(lambda: sorted(receiver.accepted) == ["e1", "e2"])
    assert states(kafka, own)["line-held/market"] == "closed"
    receiver.close()


def test_parked_events_and_dead_letters_are_told_once_for_all_and_end_when_they_are_seen_to(
    kafka: Kafka,
    own: OwnTopics,
    events: TestEvents,
    configuration: Configuration,
    processes: Processes,
    desk: Desk,
) -> None:
    """Refused events: one message for all of them; put back or corrected, the alerts close by themselves.

    One whose pusher was killed before it told anybody is told all the same.
    """
    receiver = ScriptedReceiver(lambda _request, _earlier: Answer(422))
    own.ensure_agency("market", "silent")
    configuration.agency("market", receiver.url)
    configuration.agency("silent", "http://127.0.0.1:9/never", state="suspended")
    processes.start("pusher", desk.settings)
    desk.watch()
    for number in range(20):
        events.feed("market", events.certificate(f"e{number}", number))
    eventually(lambda: len(read_all(kafka, own.parked("market"), 1)) == 20, 20)
    with closing(kafka.producer()) as producer:
        headers = [("ce_id", b"quiet"), ("hongyan-original-offset", b"7"), ("hongyan-status", b"422")]
        headers += [("hongyan-parked-at", datetime.now(UTC).isoformat().encode()), ("hongyan-refusal", b"HTTP 422")]
        producer.send(own.parked("silent"), key=b"k", value=b"v", headers=headers, partition=0).result(10)
        producer.send(own.deadletter("router"), key=b"k", value=b"v", partition=0).result(10)
    desk.start()
    desk.mail("market", "已停放")
    desk.mail("router", "死信")
    post = desk.posts(AlertKind.EVENT_PARKED)[0]
    assert (post["subject"], post["size"]) == ("market", 20)
    desk.mail("silent", "已停放", within_s=20)
    receiver.script = lambda _request, _earlier: Answer()
    command = [sys.executable, "-m", "hongyan", "parked", "replay"]
    environment = with_environment(as_environment(desk.settings))
    for agency in ("market", "silent"):
        done = subprocess.run(
            [*command, agency, "--all", "--reason", "核对无误"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    with closing(kafka.producer()) as producer:
        producer.send(own.control_corrections, key=b"router/0", value=b"{}", partition=0).result(10)
    for subject in ("market", "silent", "router"):
        desk.mail("已解除", subject, within_s=40)
    removed(kafka, own, events, configuration, desk, receiver)
    own_kinds = ("event-parked/", "dead-letters/")
    eventually(lambda: {s for name, s in states(kafka, own).items() if name.startswith(own_kinds)} == {"closed"}, 10)
    receiver.close()


def removed(
    kafka: Kafka,
    own: OwnTopics,
    events: TestEvents,
    configuration: Configuration,
    desk: Desk,
    receiver: ScriptedReceiver,
) -> None:
    """An agency with a parked event and a held line is removed: both are told to be over, and why."""
    receiver.script = lambda _request, _earlier: Answer(422)
    events.feed("market", events.certificate("last", 99))
    eventually(lambda: states(kafka, own).get("event-parked/market") == "open", 20)
    receiver.script = lambda _request, _earlier: Answer(503)
    events.feed("market", events.certificate("stuck", 100))
    eventually(lambda: states(kafka, own).get("line-held/market") == "open", 20)
    desk.mail("market", HELD)
    configuration.remove_agency("market")

    def why(kind: AlertKind) -> list[str]:
        return [one["ended"] for one in desk.posts(kind) if one["reason"] == "resolved"]

    for kind in (AlertKind.EVENT_PARKED, AlertKind.LINE_HELD):
        eventually(lambda: "单位已移除" in "".join(why(kind)[-1:]), 30, f"the end of {kind}")  # noqa: B023


def test_of_two_alerters_one_tells_and_the_other_goes_on_when_it_is_killed(
    kafka: Kafka, own: OwnTopics, processes: Processes, desk: Desk
) -> None:
    """Each trouble is told once, whoever tells it: killed in between, or stopped until another one is on duty."""
    desk.settings.alerting.repeat_s = desk.settings.alerting.repeat_cap_s = 3600
    desk.watch()
    pair = [processes.start("alerter", desk.settings) for _ in range(2)]

    def duties() -> list[object]:
        return sorted(str(health_of(one)["duty"]) for one in pair)

    eventually(lambda: duties() == ["on-duty", "standby"], 30, "one of them on duty")

    def letter(stage: str) -> None:
        with closing(kafka.producer()) as producer:
            producer.send(own.deadletter(stage), key=b"k", value=b"v", partition=0).result(10)
        desk.mail(stage, "死信", within_s=40)

    letter("router")

    def active() -> Running:
        return next(one for one in pair if health_of(one)["duty"] == "on-duty")

    killed = active()
    killed.kill()
    letter("pusher")
    pair.remove(killed)
    pair.append(processes.start("alerter", desk.settings))
    eventually(lambda: duties() == ["on-duty", "standby"], 30, "another one stands by")
    stood = active()
    stood.process.send_signal(signal.SIGSTOP)
    letter("statistics")
    stood.process.send_signal(signal.SIGCONT)
    eventually(lambda: health_of(stood)["duty"] == "standby", 30, "the one that stood still is told")
    stages = ("pusher", "router", "statistics")
    with closing(kafka.producer()) as producer:
        for stage in stages:
            producer.send(own.control_corrections, key=f"{stage}/0".encode(), value=b"{}", partition=0).result(10)
    for stage in stages:
        desk.mail("已解除", stage, within_s=40)
    posts = desk.posts(AlertKind.DEAD_LETTERS)
    told = {post["id"]: (post["subject"], post["reason"]) for post in posts}
    assert sorted(told.values()) == [(stage, reason) for stage in stages for reason in ("raised", "resolved")]
    assert len(posts) - len(told) <= 2, "the one under way at the end of a duty may come twice, under its id"
    mails = {str(mail["Message-ID"]) for mail in desk.mailbox.mails if "死信" in str(mail["Subject"])}
    assert len(mails) == 2 * len(stages)


def test_many_alerts_at_once_are_written_together_and_kafka_is_blamed_for_nothing(kafka: Kafka, own: OwnTopics) -> None:
    """Two thousand changes: each is on the log, in their order, and Kafka is known to answer all the while."""
    clock, stop = SystemClock(), threading.Event()
    logs = Logs(kafka, own, lambda: [], clock)
    following = logs.start(stop)
    assert logs.ready.wait(30)
    logs.write(*(Writing(own.control_alerting, f"k{number}", b"v", ours=True) for number in range(2000)))

    def all_written() -> bool:
        assert clock.monotonic() - logs.contact_at < 10, "Kafka seems to be away"
        return logs.unwritten() == 0

    eventually(all_written, 20, "they are written")
    stop.set()
    following.join(20)
    keys = [record.key for record in read_all(kafka, own.control_alerting, 2)]
    assert keys == [f"k{number}".encode() for number in range(2000)]


def health_of(running: Running) -> dict[str, Any]:
    """Return what a process says of itself; one that has just taken over is not well yet."""
    try:
        with urllib.request.urlopen(f"{running.url}/health", timeout=5) as answer:
            found: dict[str, Any] = orjson.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            found = orjson.loads(error.read())
    return found


def test_what_ends_what_is_owed_and_what_fills_up_is_told_by_each_way_and_told_to_be_over(
    kafka: Kafka, own: OwnTopics, configuration: Configuration, desk: Desk
) -> None:
    """Keys of an agency and of a department, a certificate, an overdue follow-up, facts that are lost, a disk.

    Each comes once by mail and once by webhook, stands on the alerts' topic, and each has its end.
    """
    soon = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    certificate = Authority("synthetic").issue("client", client=True)
    own.ensure_agency("market")
    sink = "http://127.0.0.1:9/never"
    token = f"a.{base64.urlsafe_b64encode(orjson.dumps({'exp': time.time() + 86400})).decode().rstrip('=')}.b"
    tls = {"certificate": certificate.certificate, "private_key": certificate.private_key}
    configuration.agency("market", sink, state="suspended", delivery={"tls": tls, "auth": bearer(token)})
    configuration.department("health", SOURCE, "hyk_test", [ISSUED], expires_at=soon)
    ledger = HandLedger(dsn_of(desk.settings.database), datetime.now(UTC) - timedelta(days=40))
    ledger.event("r1", "market")
    change(desk, LOST % own.group("statistics"))
    alerting = desk.settings.alerting
    alerting.repeat_s = alerting.repeat_cap_s = 3600
    alerting.disk_free_percent = 100.0
    disk = str(desk.settings.data_dir)
    desk.watch()
    desk.start()
    kinds = {
        ("key-ending", "market"),
        ("key-ending", "health"),
        ("certificate-ending", "market"),
        ("follow-up-due", "market"),
        ("facts-lost", "2025-10"),
        ("disk-filling", disk),
    }

    def told(reason: str) -> set[tuple[str, str]]:
        """Return what came by mail, and by webhook under one id: what was under way at the kill comes again."""
        posts = [post for kind, _ in sorted(kinds) for post in desk.posts(AlertKind(kind)) if post["reason"] == reason]
        ids = {(post["id"], post["kind"], post["subject"]) for post in posts}
        found = Counter((kind, subject) for _, kind, subject in ids)
        assert set(found.values()) <= {1}, found
        over = "已解除" if reason == "resolved" else "】"
        return {key for key in found if desk.mailbox.subjects(over, key[1], MEANINGS[AlertKind(key[0])].title)}

    eventually(lambda: told("raised") >= kinds, 40, "each of them by both ways")
    groups = {f"{kind}/{subject}" for kind, subject in kinds}
    eventually(lambda: groups <= {n for n, s in states(kafka, own).items() if s == "open"}, 10, "and by the topic")
    desk.kill()
    configuration.agency("market", sink, state="suspended")
    configuration.department("health", SOURCE, "hyk_test", [ISSUED])
    ledger.receipt("market", "r1", "accepted", 9)
    ledger.close()
    change(desk, "UPDATE statistics.consumer_offset SET began = 0")
    alerting.disk_free_percent = 0.0
    desk.start()
    eventually(lambda: told("resolved") >= kinds, 40, "the end of each by both ways")
    assert told("raised") >= kinds
    assert {states(kafka, own)[group] for group in groups} == {"closed"}


def change(desk: Desk, statements: str) -> None:
    """Change what PostgreSQL holds."""
    with psycopg.connect(dsn_of(desk.settings.database)) as connection:
        for statement in filter(str.strip, statements.split(";")):
            connection.execute(statement.encode())


def bearer(token: str) -> dict[str, str]:
    """Return what an agency's receiver is logged in to with."""
    return {"kind": "bearer", "token": token}


def test_an_agency_hears_about_itself_on_its_own_feed_and_about_nobody_else(
    kafka: Kafka,
    own: OwnTopics,
    configuration: Configuration,
    processes: Processes,
    desk: Desk,
) -> None:
    """A grant about to end is an event to its agency alone; replaced, its end is another; a held line adds nothing."""
    soon = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    own.ensure_agency("market", "health")
    for agency in ("market", "health"):
        configuration.agency(agency, "http://127.0.0.1:9/never")
        configuration.subscription(f"alerts-{agency}", agency, [RAISED, CLEARED])
    configuration.subscription("ends", "market", [ISSUED], valid_until=soon)
    processes.start("router", desk.settings)
    processes.start("pusher", desk.settings)
    desk.watch()
    desk.start()

    def told(agency: str) -> list[str]:
        return [attribute(record, "ce_type") for record in read_all(kafka, own.feed(agency), 1)]

    eventually(lambda: told("market") == [RAISED], 40)
    desk.mail("market", "订阅即将到期")
    eventually(lambda: desk.posts(AlertKind.LINE_HELD), 30, "the held line of the alert itself")
    configuration.subscription("later", "market", [ISSUED], replaces="ends", valid_until="2099-01-01T00:00:00+08:00")
    eventually(lambda: told("market") == [RAISED, CLEARED], 40)
    assert told("health") == []


def test_a_stopped_gateway_and_router_are_told_by_the_probe_and_the_group_and_clear(
    own: OwnTopics,
    events: TestEvents,
    configuration: Configuration,
    processes: Processes,
    desk: Desk,
    kafka: Kafka,
) -> None:
    """The probe goes through all three for real; what is sealed with another master key is told too."""
    gateway = free_port()
    desk.settings.gateway.url = f"http://127.0.0.1:{gateway}"
    desk.settings.monitor.probe_every_s, desk.settings.monitor.probe_lost_s = 0.5, 4.0
    own.ensure_agency("market")
    configuration.agency("market", "http://127.0.0.1:9/never")
    processes.start("pusher", desk.settings)
    router = processes.start("router", desk.settings)
    desk.watch()
    desk.start()
    desk.mail("探测失败")
    processes.start("gateway", desk.settings, port=gateway)
    desk.mail("已解除", "探测失败", within_s=60)
    router.kill()
    events.publish(*(events.certificate(f"e{n}", n) for n in range(2, 30)))
    desk.mail("router", "消费组", within_s=60)
    processes.start("router", desk.settings)
    desk.mail("已解除", "router", "消费组", within_s=60)
    broken = {"id": "market", "name": "m", "division": "510000", "sink": "http://127.0.0.1:9/", "state": "active"}
    broken["keys"] = [{"id": "sig-1", "sealed": "of another master key"}]
    with closing(kafka.producer()) as producer:
        topic = own.control_subscriptions
        producer.send(topic, key=b"agency/market", value=orjson.dumps(broken), partition=0).result(10)
        desk.mail("market", "密钥或投递设置不可用", within_s=60)
    configuration.agency("market", "http://127.0.0.1:9/never")
    desk.mail("已解除", "密钥或投递设置不可用", within_s=60)


def test_a_slow_receiver_burns_the_error_budget_until_it_is_quick_again(
    own: OwnTopics, events: TestEvents, configuration: Configuration, processes: Processes, desk: Desk
) -> None:
    """Every event late: critical over an hour and five minutes; after many in time it is over."""
    slow = threading.Event()

    def script(_request: Request, _earlier: int) -> Answer:
        if not slow.is_set():
            slow.wait(1.2)
        return Answer()

    receiver = ScriptedReceiver(script)
    desk.settings.monitor.objective_s = 1.0
    desk.settings.alerting.slo_share, desk.settings.alerting.repeat_s = 0.9, 3600
    own.ensure_agency("market")
    configuration.agency("market", receiver.url)
    desk.watch()
    desk.start()
    processes.start("pusher", desk.settings)
    events.feed("market", *(events.certificate(f"slow-{n}", n) for n in range(32)))
    desk.mail("紧急", "market", "误差预算")
    desk.mail("紧急", "hongyan", "误差预算")
    slow.set()
    for begin in range(0, 400, 20):
        # A few at a time: on a slow machine the last of so many at once would be late as well.
        events.feed("market", *(events.certificate(f"quick-{n}", n) for n in range(begin, begin + 20)))
        eventually(lambda: len(receiver.accepted) >= 32 + begin + 20)  # noqa: B023  (waited for at once)
    desk.mail("已解除", "market", "误差预算", within_s=60)
    receiver.close()


def test_postgresql_and_kafka_away_are_told_while_they_are(tmp_path: Path, desk: Desk, processes: Processes) -> None:
    """Neither is needed to tell people; both are told to be back, in one life of the alerter. PostgreSQL hangs."""
    with open_folder() as data, Supervisor() as supervisor:
        broker, topics, port = Broker(data), Topics(), free_port()
        postgres = EmbeddedPostgres(data / "postgres", port, durable=False)
        try:
            broker.start()
            with closing(broker.connect().admin()) as admin:
                admin.ensure_topics(topics.base_specs(load_contracts().domains()))
            own = desk.settings.model_copy(deep=True)
            own.kafka = own.kafka.model_copy(update={"bootstrap_servers": broker.kafka.address, "topic_prefix": ""})
            supervisor.start(postgres.program(data / "postgres.log"))
            own.database = own.database.model_copy(update={"dsn": SecretStr(postgres.dsn("postgres"))})
            desk.settings = own
            desk.watch()
            desk.start()
            eventually(lambda: "postgresql" not in str(desk.mailbox.subjects("postgresql")), 5)
            with standing_still(port):
                desk.mail("postgresql", "没有应答")
                broker.kill()
                desk.mail("kafka", "没有应答", within_s=60)
                broker.start()
                desk.mail("已解除", "kafka", within_s=60)
            desk.mail("已解除", "postgresql", within_s=60)
        finally:
            processes.end()
            broker.kill()
