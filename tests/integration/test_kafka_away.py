"""Kafka away: the gateway says so and accepts nothing, and goes on by itself."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.runtime.kafka.client import connect
from services.runtime.settings import KafkaSettings, Settings
from tests.broker import Broker
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
        with closing(Configuration(kafka, topics, own)) as configuration:
            configuration.department("health", SOURCE, KEY, [ISSUED])
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
