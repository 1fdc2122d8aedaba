"""Kafka away: the gateway says so and accepts nothing, and goes on by itself."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.runtime.embedded.kafka import EmbeddedKafka
from services.runtime.embedded.ports import free_port
from services.runtime.errors import UnavailableError
from services.runtime.kafka.client import connect
from services.runtime.settings import KafkaSettings, Settings, with_environment
from tests.conditions import eventually
from tests.configuration import Configuration
from tests.events import ISSUED, SOURCE, attribute, read_all
from tests.processes import Processes

pytestmark = pytest.mark.servers
KEY = "hyk_test"


def post(url: str, event_id: str) -> int:
    """Publish a certificate and return the status."""
    body = {"specversion": "1.0", "id": event_id, "type": ISSUED, "data": load_contracts().types[ISSUED].sample}
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/cloudevents+json"}
    request = urllib.request.Request(f"{url}/v1/events", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


class Broker:
    """A broker of the test's own that can be killed and started again on its port."""

    def __init__(self, folder: Path) -> None:
        self.kafka = EmbeddedKafka(folder / "kafka", free_port(), free_port())
        self._program = self.kafka.program(folder / "kafka.log")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._program.log.open("ab") as log:
            environment = with_environment(self._program.environment)
            self._process = subprocess.Popen(self._program.command, stdout=log, stderr=log, env=environment)
        eventually(self._answers, 60, "the broker")

    def kill(self) -> None:
        """SIGKILL it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def _answers(self) -> bool:
        try:
            admin = connect(KafkaSettings(bootstrap_servers=self.kafka.address)).admin()
            admin.list_topics()
            admin.close()
        except UnavailableError:
            return False
        return True


def test_while_kafka_is_away_nothing_is_accepted(installation: Settings, tmp_path: Path) -> None:
    """The broker is killed and comes back: 503 in between, and what was refused is not on the topic afterwards."""
    processes = Processes(tmp_path)
    broker = Broker(tmp_path)
    own = installation.model_copy(deep=True)
    own.kafka = KafkaSettings(bootstrap_servers=broker.kafka.address)
    own.gateway.acknowledge_timeout_s = 2.0
    kafka, topics = connect(own.kafka), Topics()
    try:
        broker.start()
        admin = kafka.admin()
        admin.ensure_topics(topics.base_specs(load_contracts().domains()))
        admin.close()
        Configuration(kafka, topics, own).department("health", SOURCE, KEY, [ISSUED])
        gateway = processes.start("gateway", own)
        assert eventually(lambda: post(gateway.url, "before") == 202)
        broker.kill()
        assert post(gateway.url, "away") == 503
        broker.start()
        eventually(lambda: post(gateway.url, "after") == 202, 60)
        found = {attribute(record, "ce_id") for record in read_all(kafka, topics.events("health"), 12)}
        assert found == {"before", "after"}
    finally:
        processes.end()
        broker.kill()
