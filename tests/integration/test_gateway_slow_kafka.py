"""Kafka that has stopped answering: the gateway holds a bounded number of requests and turns the others away."""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.runtime.kafka.client import connect
from services.runtime.settings import KafkaSettings, Settings
from tests.broker import Broker
from tests.conditions import eventually
from tests.configuration import Configuration
from tests.events import ISSUED, SOURCE, attribute, read_all
from tests.processes import Processes, Running

pytestmark = pytest.mark.servers
KEY = "hyk_test"
CLIENTS = 40
BATCH = 400
GROWTH_MB = 60


def post(gateway: Running, name: str, count: int = 1) -> tuple[int, str | None, float]:
    """Publish a batch; return the status, Retry-After and the seconds that it took."""
    sample = load_contracts().types[ISSUED].sample
    body = json.dumps([{"id": f"{name}-{n}", "type": ISSUED, "data": sample} for n in range(count)])
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/cloudevents-batch+json"}
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)
    began = time.monotonic()
    try:
        connection.request("POST", "/v1/events", body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers["Retry-After"], time.monotonic() - began
    finally:
        connection.close()


def test_while_kafka_stands_still_memory_does_not_grow_and_callers_are_told(
    installation: Settings, tmp_path: Path
) -> None:
    """The broker is stopped (SIGSTOP): 503 with Retry-After for all, most at once; afterwards all goes on."""
    processes, broker = Processes(tmp_path), Broker(tmp_path)
    own = installation.model_copy(deep=True)
    own.kafka = KafkaSettings(bootstrap_servers=broker.kafka.address)
    own.gateway.acknowledge_timeout_s = 3.0
    own.gateway.max_in_flight, own.gateway.max_waiting = 4, 4
    own.gateway.rate_per_s, own.gateway.burst = 1e9, 1_000_000_000
    kafka, topics = connect(own.kafka), Topics()
    try:
        broker.start()
        admin = kafka.admin()
        admin.ensure_topics(topics.base_specs(load_contracts().domains()))
        admin.close()
        with closing(Configuration(kafka, topics, own)) as configuration:
            configuration.department("health", SOURCE, KEY, [ISSUED])
        gateway = processes.start("gateway", own)
        eventually(lambda: post(gateway, "before", BATCH)[0] == 202, 30)
        broker.signal(signal.SIGSTOP)
        before_mb = psutil.Process(gateway.process.pid).memory_info().rss / 1e6
        answers: list[tuple[int, str | None, float]] = []
        with ThreadPoolExecutor(CLIENTS) as clients:
            for turn in range(3):
                names = [f"stopped-{turn}-{n}" for n in range(CLIENTS)]
                answers += clients.map(lambda name: post(gateway, name, BATCH), names)
        assert Counter(status for status, _, _ in answers) == {503: 3 * CLIENTS}
        assert all(int(after or 0) >= 1 for _, after, _ in answers)
        assert gateway.healthy()
        quick = [seconds for _, _, seconds in answers if seconds < own.gateway.acknowledge_timeout_s]
        assert len(quick) >= CLIENTS
        grown_mb = psutil.Process(gateway.process.pid).memory_info().rss / 1e6 - before_mb
        assert grown_mb < GROWTH_MB, f"grew by {grown_mb:.0f} MB over {len(answers)} batches of {BATCH}"
        broker.signal(signal.SIGCONT)
        eventually(lambda: post(gateway, "after", BATCH)[0] == 202, 60)
        found = {attribute(record, "ce_id") for record in read_all(kafka, topics.events("health"), 12)}
        accepted = {f"{name}-{n}" for name in ("before", "after") for n in range(BATCH)}
        assert accepted <= found
    finally:
        broker.signal(signal.SIGCONT)
        processes.end()
        broker.kill()
