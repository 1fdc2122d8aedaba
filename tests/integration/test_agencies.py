"""Receiving agencies over the administration API, on real servers: verified, tried, their keys and settings changed."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import psycopg
import pytest

from consumers.receiver.checking import check
from consumers.receiver.evidence import evidence_of
from consumers.receiver.kit import Event, Receiver, WsgiApp
from consumers.receiver.probing import Probe
from services.runtime.database import dsn_of
from services.runtime.kafka.port import Kafka
from services.runtime.settings import Settings, as_environment, with_environment
from tests.certificates import Authority
from tests.conditions import eventually
from tests.configuration import SECRET, Configuration
from tests.conftest import OwnTopics
from tests.events import ISSUED, TestEvents, document, read_all
from tests.processes import Processes
from tests.scripted_receiver import Answer, ScriptedReceiver
from tests.webservers import serving_wsgi

pytestmark = pytest.mark.servers

Call = Callable[..., tuple[int, Any]]


@pytest.fixture
def call(installation: Settings, processes: Processes) -> Call:
    """A portal that wants webhooks verified, and a way to call it."""
    installation.delivery.require_verification = True
    portal = processes.start("portal", installation)
    installation.portal.url = portal.url

    def ask(path: str, body: object | None = None, method: str | None = None) -> tuple[int, Any]:
        payload = json.dumps(body).encode() if body is not None else None
        headers = {"Authorization": "Bearer test-administration-key", "Content-Type": "application/json"}
        request = urllib.request.Request(portal.url + path, payload, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    return ask


class Kit:
    """A receiver of the kit whose keys are learnt after the agency was added."""

    def __init__(self) -> None:
        self.keys = [SECRET]
        self.events: list[Event] = []
        self.app = WsgiApp(Receiver(self.keys, self.events.append))


@pytest.fixture
def kit() -> Iterator[tuple[Kit, str]]:
    """A receiver of the kit, and its address."""
    found = Kit()
    with serving_wsgi(found.app) as url:
        yield found, url


def agency(sink: str, **more: Any) -> dict[str, Any]:
    """Return an agency to add."""
    return {"id": "market", "name": "省市场监管局", "sink": sink} | more


def test_a_new_webhook_gets_nothing_before_it_has_answered_the_signed_challenge(
    call: Call,
    kit: tuple[Kit, str],
    configuration: Configuration,
    events: TestEvents,
    installation: Settings,
    processes: Processes,
) -> None:
    """Without the key it fails the challenge and its events wait; with it, they come at once."""
    receiver, url = kit
    status, added = call("/v1/agencies", agency(url))
    assert (status, added["verified_at"]) == (201, None)
    configuration.subscription("s", "market", [ISSUED])
    processes.start("pusher", installation)
    events.feed("market", events.certificate("e1", 1))
    status, problem = call("/v1/agencies/market/verify", {})
    assert (status, problem["errors"][0]["pointer"]) == (422, "/sink")
    assert "HTTP 401" in problem["errors"][0]["detail"]
    assert not receiver.events
    receiver.keys.append(added["secret"])
    status, verified = call("/v1/agencies/market/verify", {})
    assert (status, verified["passed"]) == (200, True)
    eventually(lambda: [event.id for event in receiver.events] == ["e1"])


def test_a_changed_address_must_answer_the_challenge_before_it_is_used(call: Call, kit: tuple[Kit, str]) -> None:
    """An address that only says 204, or is not allowed, is refused; nothing changes by it."""
    receiver, url = kit
    receiver.keys.append(call("/v1/agencies", agency(url))[1]["secret"])
    other = ScriptedReceiver()
    for sink, word in ((other.url, "challenge"), ("http://192.0.2.1/", "192.0.2.1")):
        status, problem = call("/v1/agencies/market", {"sink": sink, "reason": "迁移"}, "PATCH")
        assert status == 422
        assert word in problem["errors"][0]["detail"]
    other.close()
    assert call("/v1/agencies")[1][0]["sink"] == url
    status, changed = call("/v1/agencies/market", {"sink": url + "new", "reason": "迁移"}, "PATCH")
    assert (status, changed["sink"]) == (200, url + "new")


def test_a_test_delivery_tells_what_came_back(call: Call, kit: tuple[Kit, str]) -> None:
    """Delivered as a real one would be: refused without the key, taken with it, and marked as a trial."""
    receiver, url = kit
    added = call("/v1/agencies", agency(url))[1]
    status, result = call("/v1/agencies/market/test", {})
    assert (status, result["passed"], result["status"]) == (200, False, 401)
    assert "签名不符" in result["answer"]
    receiver.keys.append(added["secret"])
    result = call("/v1/agencies/market/test", {})[1]
    assert (result["passed"], result["status"]) == (True, 204)
    assert result["milliseconds"] > 0
    assert not receiver.events


def test_signing_keys_are_changed_with_an_overlap_and_a_reason_on_record(
    call: Call, kit: tuple[Kit, str], installation: Settings
) -> None:
    """Two live keys sign side by side; a third is refused; the last one can't be revoked; secrets are kept sealed."""
    receiver, url = kit
    first = call("/v1/agencies", agency(url))[1]
    status, rotated = call("/v1/agencies/market/keys", {"reason": "年度更换", "overlap_hours": 1})
    assert status == 201
    assert rotated["secret"] != first["secret"]
    old, new = rotated["keys"]
    assert (old["expires_at"] is None, new["expires_at"]) == (False, None)
    for secret in (first["secret"], rotated["secret"]):
        receiver.keys[:] = [secret]
        assert call("/v1/agencies/market/test", {})[1]["passed"]
    assert call("/v1/agencies/market/keys", {"reason": "third"})[0] == 409
    assert call(f"/v1/agencies/market/keys/{old['id']}/revoke", {"reason": "泄露"})[0] == 200
    receiver.keys[:] = [first["secret"]]
    assert not call("/v1/agencies/market/test", {})[1]["passed"]
    assert call(f"/v1/agencies/market/keys/{new['id']}/revoke", {"reason": "last"})[0] == 409
    status, other = call("/v1/agencies/market/keys", {"reason": "改用公钥验签", "kind": "ed25519"})
    assert status == 201
    assert "secret" not in other
    receiver.keys[:] = [other["public_key"]]
    assert call("/v1/agencies/market/test", {})[1]["passed"]
    with psycopg.connect(dsn_of(installation.database)) as connection:
        decided = connection.execute("SELECT action, reason FROM decision WHERE kind = 'agency' ORDER BY id").fetchall()
        sealed = connection.execute("SELECT string_agg(sealed, ' ') FROM agency_key").fetchone()
    assert decided[1:] == [("rotate-key", "年度更换"), ("revoke-key", "泄露"), ("rotate-key", "改用公钥验签")]
    assert sealed is not None
    assert rotated["secret"] not in sealed[0]


def test_delivery_settings_are_checked_field_by_field_and_their_secrets_hidden(
    call: Call, kit: tuple[Kit, str], kafka: Kafka, own: OwnTopics
) -> None:
    """What is wrong is named; what is secret is sealed on its way and never shown."""
    _, url = kit
    call("/v1/agencies", agency(url))
    stranger = Authority("x").issue("x", client=True)
    wrong: dict[str, dict[str, Any]] = {
        "/delivery/rate_per_s": {"rate_per_s": 0},
        "/delivery/speed": {"speed": 1},
        "/delivery/format": {"format": "xml"},
        "/delivery": {"format": "avro", "batch": 10},
        "/delivery/auth/oauth2/token_url": {"auth": {"kind": "oauth2", "client_id": "x", "client_secret": "y"}},
        "/delivery/auth/token_url": {
            "auth": {"kind": "oauth2", "token_url": "http://192.0.2.1/", "client_id": "x", "client_secret": "y"}
        },
        "/delivery/tls": {"tls": {"ca": "-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----"}},
    }
    for pointer, delivery in wrong.items():
        status, problem = call("/v1/agencies/market", {"delivery": delivery, "reason": "r"}, "PATCH")
        assert (status, problem["errors"][0]["pointer"]) == (422, pointer), problem
    tls = {"certificate": stranger.certificate, "private_key": stranger.private_key}
    good = {"rate_per_s": 20, "batch": 50, "auth": {"kind": "bearer", "token": "geheim-1"}, "tls": tls}
    status, changed = call("/v1/agencies/market", {"delivery": good, "reason": "按单位要求"}, "PATCH")
    assert status == 200, changed
    assert changed["delivery"]["rate_per_s"] == 20
    told = json.dumps(call("/v1/agencies")[1]) + json.dumps(changed)
    control = eventually(
        lambda: [d for d in map(document, read_all(kafka, own.control_subscriptions, 1)) if d.get("delivery")]
    )
    for text in (told, json.dumps(control)):
        assert "geheim-1" not in text
        assert "PRIVATE KEY" not in text


def test_the_result_of_a_check_is_kept_for_the_agency_and_cannot_be_edited(call: Call, kit: tuple[Kit, str]) -> None:
    """A document that no longer fits its digest is refused; the same one again changes nothing."""
    receiver, url = kit
    secret = call("/v1/agencies", agency(url))[1]["secret"]
    receiver.keys.append(secret)
    evidence = evidence_of(url, check(Probe(url, secret, 10.0)), 10.0)
    for _ in range(2):
        status, kept = call("/v1/agencies/market/evidence", evidence)
        assert (status, kept["passed"], kept["digest"]) == (201, True, evidence["digest"])
    status, problem = call("/v1/agencies/market/evidence", evidence | {"passed": False})
    assert (status, problem["errors"][0]["pointer"]) == (422, "/digest")
    assert [row["document"] for row in call("/v1/agencies/market/evidence")[1]] == [evidence]
    assert call("/v1/agencies/nobody/evidence", evidence)[0] == 422


def test_every_give_up_is_an_alert_that_people_can_list_and_that_closes_by_itself(
    call: Call,
    configuration: Configuration,
    own: OwnTopics,
    events: TestEvents,
    installation: Settings,
    processes: Processes,
) -> None:
    """A parked event, a held line and a receiver that is gone; the held line's alert closes when it flows again."""
    answers = {"parks": 422, "holds": 503, "leaves": 410}
    receivers = {
        name: ScriptedReceiver(lambda _request, _earlier, name=name: Answer(answers[name]))  # type: ignore[misc]
        for name in answers
    }
    own.ensure_agency(*answers)
    for name, receiver in receivers.items():
        configuration.agency(name, receiver.url)
        configuration.subscription(f"s-{name}", name, [ISSUED])
    processes.start("pusher", installation)
    for name in answers:
        events.feed(name, events.certificate(f"{name}-1", 1))

    def open_alerts() -> dict[str, str]:
        return {row["subject"]: row["kind"] for row in call("/v1/alerts")[1]}

    wanted = {"parks": "event-parked", "holds": "line-held", "leaves": "agency-gone"}
    eventually(lambda: open_alerts() == wanted, 20)
    parked = call("/v1/alerts?agency=parks")[1][0]
    assert parked["labels"]["event_id"] == "parks-1"
    assert "hongyan parked replay" in parked["action"]
    answers["holds"] = 204
    eventually(lambda: set(open_alerts()) == {"parks", "leaves"}, 20)
    states = {row["kind"]: row["state"] for row in call("/v1/alerts?all=true&agency=holds")[1]}
    assert states == {"line-held": "closed"}
    for receiver in receivers.values():
        receiver.close()


class Command(Protocol):
    """Runs ``hongyan`` against the portal and returns what it prints."""

    def __call__(self, *arguments: str, fails: bool = False) -> str: ...


@pytest.fixture
def command(call: Call, installation: Settings) -> Command:
    """The command line, as an operator has it."""

    def run(*arguments: str, fails: bool = False) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "hongyan", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**with_environment(as_environment(installation)), "COLUMNS": "250"},
        )
        assert (done.returncode != 0) == fails, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    return run


def test_commands_speak_to_people(command: Command, kit: tuple[Kit, str]) -> None:
    """From adding to going live, all by command; what fails says what to do."""
    receiver, url = kit
    added = command(
        "agency", "add", "city", "--name", "成都市市场监管局", "--webhook", url, "--delivery", '{"batch": 5}'
    )
    assert "hongyan agency verify city" in added
    refused = command("agency", "verify", "city", fails=True)
    told = ("/sink", "HTTP 401", "密钥不符", "wrong key?", "签名不符")
    assert [word for word in told if word not in refused] == []
    assert "待验证" in command("agency", "list")
    secret = next(word for word in added.split() if word.startswith("whsec_"))
    receiver.keys.append(secret)
    done = command("agency", "verify", "city")
    assert ("verified" in done, "仍为暂停" in done, "渠道" in done) == (True, False, False)
    assert "HTTP 204" in command("agency", "test", "city")
    checked = command("receiver", "check", url, "--secret", secret, "--agency", "city")
    assert ("全部通过" in checked, "hongyan agency evidence city" in checked, "注意" in checked) == (True, True, False)
    other = command("receiver", "check", url + "other", "--secret", secret, "--agency", "city")
    assert f"检查的是 {url}other，而 city 登记的推送地址是 {url}：" in other
    kept = json.loads(command("agency", "evidence", "city", "--json"))
    assert [(row["document"]["url"], bool(row["document"]["warnings"])) for row in kept] == [
        (url + "other", True),
        (url, False),
    ]
    assert "登记的地址没有检查" in command("agency", "evidence", "city")
    assert "没有接收单位 nobody" in command(
        "receiver", "check", url, "--secret", secret, "--agency", "nobody", fails=True
    )
    rotated = command("agency", "rotate-key", "city", "--reason", "年度更换", "--overlap-hours", "2")
    assert "whsec_" in rotated
    assert '"rate_per_s": 5' in command("agency", "set-delivery", "city", '{"rate_per_s": 5}', "--reason", "限速")
    assert "JSON" in command("agency", "set-delivery", "city", "{", "--reason", "x", fails=True)
    keys = json.loads(command("agency", "show", "city"))["keys"]
    assert keys[0]["id"] not in command("agency", "revoke-key", "city", keys[0]["id"], "--reason", "泄露")
    assert "没有接收单位 nobody" in command("agency", "show", "nobody", fails=True)
    assert "没有告警" in command("alerts")
    # The servers here have no authoriser: whoever asks is told what is missing, and not of an error of ours.
    refused = command("agency", "kafka-user", "city", "--reason", "直连", fails=True)
    assert "须先启用授权与 SASL 监听，没有发放" in refused
    assert "内部错误" not in refused


def test_commands_say_why_nothing_is_pushed(command: Command, kit: tuple[Kit, str]) -> None:
    """Who suspended it, when and why, and by which channel it takes its feed; a right answer promises no more."""
    receiver, url = kit
    added = command("agency", "add", "city", "--name", "成都市市场监管局", "--webhook", url)
    receiver.keys.append(next(word for word in added.split() if word.startswith("whsec_")))
    shown = json.loads(command("agency", "show", "city"))
    assert (shown["channel"], shown["suspended"]) == ("webhook", None)
    command("agency", "suspend", "city", "--reason", "对方机房搬迁")
    paused = json.loads(command("agency", "show", "city"))["suspended"]
    assert (paused["decided_by"], paused["reason"]) == ("administrator", "对方机房搬迁")
    assert datetime.fromisoformat(paused["decided_at"]) > datetime.now(UTC) - timedelta(minutes=5)
    listed = command("agency", "list")
    assert [word for word in ("webhook", "suspended，理由见 agency show，待验证") if word not in listed] == []
    assert "仍为暂停，hongyan agency resume city" in command("agency", "verify", "city")
    command("agency", "resume", "city", "--reason", "已就绪")
    command("agency", "channel", "city", "pull", "--reason", "改为自行拉取")
    assert json.loads(command("agency", "show", "city"))["suspended"] is None
    assert f"不用：{url}" in command("agency", "list")
    assert json.loads(command("agency", "list", "--json"))[0]["channel"] == "pull"
    assert "渠道是 pull，不推送" in command("agency", "verify", "city")
    assert "只拉取的也给一个自己的" in command("agency", "add", "--help")
