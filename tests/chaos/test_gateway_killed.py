"""The gateway under SIGKILL: departments send each case again, with the same id, until they get their 202.

What is asserted, and why just that. An answer that was lost on the way can't be told from an event that was, so the
sender must repeat, and Kafka may then hold an event twice: no gateway can prevent it. The contract is the identity
``(source, id, subject)``. So: every event that was answered with 202 stands on the log where the answer says; all
copies of one id are the same event; the router routes each case exactly once and calls every other copy a duplicate;
the agency's feed has each case exactly once. The run of 20,000 cases with 50 kills:
``HONGYAN_TESTS_GATEWAY_CASES=20000 HONGYAN_TESTS_GATEWAY_KILLS=50``.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from schemas.contracts import load_contracts
from schemas.topics import EVENT_PARTITIONS
from services.runtime.kafka.port import Kafka, Record
from services.runtime.settings import Settings
from tests.conditions import eventually
from tests.configuration import Configuration
from tests.conftest import OwnTopics
from tests.events import ACCEPTED, SOURCE, attribute, document, read_all
from tests.processes import Processes

pytestmark = pytest.mark.servers

CASES = int(os.environ.get("HONGYAN_TESTS_GATEWAY_CASES", "600"))
KILLS = int(os.environ.get("HONGYAN_TESTS_GATEWAY_KILLS", "3"))
KEY = "hyk_test"
CLIENTS = 4
LARGEST_BATCH = 5
PHASE_S = 0.05
PAUSE_S = 0.05
Place = tuple[str, int, int]


class Departments:
    """Clients that send cases until each has its 202, through whatever happens to the gateway."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sample = load_contracts().types[ACCEPTED].sample
        self._lock = threading.Lock()
        self.places: dict[str, Place] = {}
        self.failures = 0
        self.broken = threading.Event()

    def accepted(self) -> int:
        """Return how many events have their 202."""
        with self._lock:
            return len(self.places)

    def send_all(self, cases: Sequence[int], seed: int) -> None:
        """Send cases in order, alone or a few at once."""
        dice = random.Random(seed)
        waiting = list(cases)
        pause = threading.Event()
        while waiting:
            size = dice.randint(1, LARGEST_BATCH)
            some, waiting = waiting[:size], waiting[size:]
            while not self._sent(some):
                assert not self.broken.is_set()
                pause.wait(PAUSE_S)

    def _sent(self, cases: Sequence[int]) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=15)
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/cloudevents-batch+json"}
        try:
            connection.request("POST", "/v1/events", json.dumps([self._event(case) for case in cases]), headers)
            answer = connection.getresponse()
            body = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError):
            self.failures += 1
            return False
        finally:
            connection.close()
        if answer.status == 503:
            self.failures += 1
            return False
        if answer.status != 202:
            self.broken.set()
        assert answer.status == 202, body
        self._note(body["events"])
        return True

    def _event(self, case: int) -> dict[str, Any]:
        data = {**self._sample, "project_no": f"SYN-{case:06d}"}
        return {"specversion": "1.0", "id": str(case), "type": ACCEPTED, "data": data}

    def _note(self, told: Sequence[dict[str, Any]]) -> None:
        with self._lock:
            self.places |= {one["id"]: (one["topic"], one["partition"], one["offset"]) for one in told}


@pytest.mark.timeout(180 + CASES // 20 + KILLS * 20)
def test_every_accepted_case_is_on_the_log_and_routed_exactly_once_whatever_is_killed(
    kafka: Kafka, own: OwnTopics, installation: Settings, configuration: Configuration, processes: Processes
) -> None:
    """The gateway is killed under load again and again, and comes back on its port."""
    own.ensure_agency("centre")
    configuration.agency("centre", "http://127.0.0.1:9/never")
    configuration.subscription("all", "centre", [ACCEPTED])
    configuration.department("hall", SOURCE, KEY, [ACCEPTED])
    processes.start("router", installation)
    gateway = processes.start("gateway", installation)
    departments, dice = Departments(gateway.port), random.Random(20251204)
    share = CASES // (KILLS + 1)
    with ThreadPoolExecutor(CLIENTS) as clients:
        sending = [clients.submit(departments.send_all, range(n, CASES, CLIENTS), n) for n in range(CLIENTS)]
        for kill in range(KILLS):
            goal = kill * share + dice.randrange(share)
            eventually(lambda goal=goal: departments.accepted() >= goal or departments.broken.is_set(), 120)  # type: ignore[misc]
            threading.Event().wait(dice.uniform(0, PHASE_S))
            gateway.kill()
            gateway = processes.start("gateway", installation, port=gateway.port)
        for one in sending:
            one.result(120 + CASES / 50)
    assert departments.failures > 0
    check(kafka, own, departments)


def check(kafka: Kafka, own: OwnTopics, departments: Departments) -> None:
    """Compare the log, the ledger and the feed with what the departments were told."""
    cases = {str(case) for case in range(CASES)}
    assert departments.places.keys() == cases
    records = read_all(kafka, own.events("window"), EVENT_PARTITIONS)
    standing = {(r.topic, r.partition, r.offset): attribute(r, "ce_id") for r in records}
    assert {case: standing.get(place) for case, place in departments.places.items()} == {case: case for case in cases}
    copies: dict[str, set[bytes]] = {}
    for record in records:
        copies.setdefault(attribute(record, "ce_id"), set()).add(record.value or b"")
    assert copies.keys() == cases
    assert all(len(contents) == 1 for contents in copies.values())

    def ledger() -> list[Record] | None:
        found = read_all(kafka, own.ledger_routed, EVENT_PARTITIONS)
        return found if len(found) >= len(records) else None

    entries = eventually(ledger, 60 + CASES / 200)
    verdicts = Counter((document(entry)["id"], document(entry)["verdict"]) for entry in entries)
    assert {case: verdicts[case, "routed"] for case in cases} == dict.fromkeys(cases, 1)
    assert {verdict for _, verdict in verdicts} <= {"routed", "duplicate"}
    fed = Counter(attribute(record, "ce_id") for record in read_all(kafka, own.feed("centre"), 1))
    assert fed == Counter(cases)
