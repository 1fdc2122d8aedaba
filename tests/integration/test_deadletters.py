"""Dead letters on real servers: found, corrected, resubmitted; nothing lost or doubled if the portal is killed."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from schemas.contracts import load_contracts
from services.runtime.kafka.port import Kafka
from services.runtime.settings import Settings, as_environment, with_environment
from tests.conditions import eventually
from tests.configuration import Configuration
from tests.conftest import OwnTopics
from tests.events import ISSUED, SOURCE, TestEvents, attribute, document, read_all
from tests.processes import Processes

pytestmark = pytest.mark.servers
ARREARS = "cn.gov.sc.insurance.arrears.noticed"
NO_CHARACTER = {"institution_uscc": "12510100TE5T000249"}


@dataclass
class Portal:
    """The administration API."""

    url: str

    def ask(self, path: str, body: object | None = None) -> tuple[int, Any]:
        """Call it."""
        payload = json.dumps(body).encode() if body is not None else None
        headers = {"Authorization": "Bearer test-administration-key", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, payload, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def letters(self, query: str = "") -> list[dict[str, Any]]:
        """Search."""
        found: list[dict[str, Any]] = self.ask(f"/v1/deadletters{query}")[1]
        return found


@pytest.fixture
def portal(installation: Settings, processes: Processes) -> Portal:
    """A portal process."""
    return Portal(processes.start("portal", installation).url)


def put_aside(events: TestEvents, own: OwnTopics, number: int, **headers: str) -> None:
    """Put a letter aside as the router does when an event has no time, which its corrector must give."""
    event = events.certificate(f"u{number}", number)
    kept = {name: value.decode() for name, value in event.headers if name != "ce_time"}
    ours = {"hongyan-stage": "router", "hongyan-reason": "CloudEvents attribute missing: time"}
    events.publish_raw(own.deadletter("router"), event.value, event.key, kept | ours | headers)


def routed(kafka: Kafka, own: OwnTopics) -> Mapping[str, str]:
    """Return the router's verdict on each id."""
    found = [document(record) for record in read_all(kafka, own.ledger_routed, 12)]
    return {str(entry["id"]): entry["verdict"] for entry in found}


def test_a_conflict_is_found_corrected_and_routed_under_a_new_id(
    portal: Portal,
    installation: Settings,
    processes: Processes,
    configuration: Configuration,
    events: TestEvents,
    kafka: Kafka,
    own: OwnTopics,
) -> None:
    """The second of two contents under one id is a dead letter; put back it is an event of its own, with a record."""
    own.ensure_agency("market")
    configuration.agency("market", "http://127.0.0.1:9/")
    configuration.subscription("s", "market", [ISSUED])
    processes.start("router", installation)
    events.publish(events.certificate("c1", 1), events.certificate("c1", 1, beds=77))
    letter = eventually(lambda: portal.letters("?stage=router&state=open"), 30)[0]
    assert (letter["verdict"], letter["attributes"]["id"]) == ("conflict", "c1")
    assert letter["origin"].startswith(own.events("health"))
    assert portal.letters("?text=nothing-like-it") == []
    assert portal.letters(f"?type={ISSUED}&source={SOURCE}") == [letter]
    path = f"/v1/deadletters/{letter['number']}"
    assert portal.ask(path)[1]["data"]["beds"] == 77
    bad = portal.ask(f"{path}/resubmit", {"reason": "r", "data": {"beds": -1}, "attributes": {"subject": "x"}})
    assert (bad[0], {e["pointer"] for e in bad[1]["errors"]}) == (422, {"/data/beds", "/attributes/subject"})
    status, record = portal.ask(f"{path}/resubmit", {"reason": "床位数抄错", "by": "王五", "data": {"beds": 78}})
    assert status == 200
    assert record["event"]["id"].startswith("c1.r")
    assert (record["by"], record["reason"], record["changed"]) == ("王五", "床位数抄错", ["/data/beds"])
    assert record["before"] != record["after"]
    eventually(lambda: routed(kafka, own).get(record["event"]["id"]) == "routed", 30)
    assert portal.letters("?state=open") == []
    assert portal.letters("?state=corrected")[0]["correction"] == record


def test_asked_again_it_sends_nothing_and_another_correction_is_refused(
    portal: Portal, events: TestEvents, kafka: Kafka, own: OwnTopics
) -> None:
    """An identity that was never accepted keeps its id; the same correction gives the first record again."""
    put_aside(events, own, 1)
    assert [e["pointer"] for e in portal.ask("/v1/deadletters/router/0/resubmit", {"reason": ""})[1]["errors"]] == [
        "/reason"
    ]
    body = {"reason": "补时间", "attributes": {"time": "2025-12-02T10:00:00+08:00"}, "data": NO_CHARACTER}
    first = portal.ask("/v1/deadletters/router/0/resubmit", body)
    assert (first[0], first[1]["event"]["id"]) == (200, "u1")
    assert portal.ask("/v1/deadletters/router/0/resubmit", body) == first
    assert portal.ask("/v1/deadletters/router/0/resubmit", {**body, "data": {"beds": 5}})[0] == 409
    assert portal.ask("/v1/deadletters/router/7/resubmit", body)[0] == 404
    assert portal.ask("/v1/deadletters/nowhere/0")[0] == 404
    (record,) = read_all(kafka, own.events("health"), 12)
    assert attribute(record, "ce_time") == "2025-12-02T10:00:00+08:00"
    assert attribute(record, "ce_quality") == "institution_uscc:check-character"
    assert record.key == attribute(record, "ce_subject").encode()


def test_a_department_is_told_of_its_own_dead_letters(
    installation: Settings, processes: Processes, configuration: Configuration, events: TestEvents, own: OwnTopics
) -> None:
    """At the gateway, by its own key: those of its source, and of no other."""
    configuration.department("health", SOURCE, "hyk_test", [ISSUED])
    configuration.department("other", "urn:other", "hyk_other", [ISSUED])
    put_aside(events, own, 5)
    gateway = processes.start("gateway", installation)

    def told(key: str) -> Any:
        request = urllib.request.Request(f"{gateway.url}/v1/deadletters", headers={"Authorization": f"Bearer {key}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    assert [letter["attributes"]["id"] for letter in told("hyk_test")] == ["u5"]
    assert told("hyk_other") == []


def test_a_restricted_event_goes_only_to_the_receivers_in_its_data(
    portal: Portal, events: TestEvents, kafka: Kafka, own: OwnTopics
) -> None:
    """A letter's attribute, or one that its corrector gives, can't widen who gets it."""
    contract = load_contracts().types[ARREARS]
    named = contract.catalogue.named_receivers
    assert named
    event = events.prepare(ARREARS, "r1", **{named: ["tax"]})
    kept = {name: value.decode() for name, value in event.headers if name != "ce_receivers"}
    ours = {"hongyan-reason": "no receivers", "ce_receivers": "everyone"}
    events.publish_raw(own.deadletter("router"), event.value, event.key, kept | ours)
    body = {"reason": "补接收单位", "attributes": {"receivers": "everyone"}, "data": {named: ["social", "medical"]}}
    assert portal.ask("/v1/deadletters/router/0/resubmit", body)[0] == 200
    (record,) = read_all(kafka, own.events(contract.domain), 12)
    assert attribute(record, "ce_receivers") == "medical,social"


def test_commands_find_show_and_resubmit(
    portal: Portal, installation: Settings, events: TestEvents, own: OwnTopics
) -> None:
    """What a person types, with a readable answer to a slip."""
    installation.portal.url = portal.url
    put_aside(events, own, 3)

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hongyan", "deadletter", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=with_environment(as_environment(installation) | {"COLUMNS": "200"}),
        )

    assert "router/0" in command("list", "--stage", "router", "--state", "open").stdout
    assert json.loads(command("show", "router/0").stdout)["attributes"]["id"] == "u3"
    slip = command("resubmit", "router/0", "--reason", "r", "--data", "{")
    assert slip.returncode == 1
    assert "Traceback" not in slip.stderr
    done = command("resubmit", "router/0", "--reason", "补床位", "--by", "李四", "--data", '{"beds": 20}')
    assert done.returncode == 0, done.stderr
    assert json.loads(command("list", "--json").stdout)[0]["correction"]["by"] == "李四"


def test_a_killed_portal_neither_loses_nor_doubles_a_correction(
    installation: Settings, processes: Processes, events: TestEvents, kafka: Kafka, own: OwnTopics
) -> None:
    """SIGKILL amid resubmissions, several times: event and record are there together, once each."""
    count = 8
    for number in range(count):
        put_aside(events, own, number)
    body = {"reason": "补时间", "attributes": {"time": "2025-12-02T10:00:00+08:00"}}

    def resubmit_all(portal: Portal, under_way: threading.Event) -> None:
        for number in range(count):
            try:
                portal.ask(f"/v1/deadletters/router/{number}/resubmit", body)
            except (OSError, http.client.HTTPException):
                return  # it was killed
            under_way.set()

    pause = threading.Event()
    for delay_s in (0.0, 0.013, 0.031):
        running = processes.start("portal", installation)
        under_way = threading.Event()
        thread = threading.Thread(target=resubmit_all, args=(Portal(running.url), under_way))
        thread.start()
        assert under_way.wait(30)
        pause.wait(delay_s)
        running.kill()
        thread.join(60)
    last = Portal(processes.start("portal", installation).url)
    for number in range(count):
        assert eventually(lambda n=number: last.ask(f"/v1/deadletters/router/{n}/resubmit", body)[0] == 200, 40)
    sent = Counter(attribute(record, "ce_id") for record in read_all(kafka, own.events("health"), 12))
    records = Counter(document(record)["event"]["id"] for record in read_all(kafka, own.control_corrections, 1))
    assert sent == records == Counter({f"u{number}": 1 for number in range(count)})
