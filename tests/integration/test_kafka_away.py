"""Kafka away: the gateway says so and accepts nothing, and goes on by itself."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request
from contextlib import closing
from datetime import UTC, datetime
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
from tests.processes import Processes, Running

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


def health(process: Running) -> tuple[int, dict[str, object]]:
    """Return what a process says of itself."""
    try:
        with urllib.request.urlopen(f"{process.url}/health", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_router_and_pusher_say_that_an_idle_broker_is_dead_since_when_and_that_it_is_back(
    installation: Settings, tmp_path: Path
) -> None:
    """Stopped, then killed, while nobody publishes anything: bad within seconds, and good again after each."""
    processes, broker = Processes(tmp_path), Broker(tmp_path)
    own = installation.model_copy(deep=True)
    own.kafka = KafkaSettings(bootstrap_servers=broker.kafka.address, silent_s=2.0)
    try:
        broker.start()
        with closing(connect(own.kafka).admin()) as admin:
            admin.ensure_topics(Topics().base_specs(load_contracts().domains()))
        idle = [processes.start(name, own) for name in ("router", "pusher")]

        def bad() -> bool:
            return all(health(one)[0] == 503 for one in idle)

        def well() -> bool:
            return all(one.healthy() for one in idle)

        for end, begin in (
            (lambda: broker.signal(signal.SIGSTOP), lambda: broker.signal(signal.SIGCONT)),
            (broker.kill, broker.start),
        ):
            began = datetime.now(UTC)
            end()
            eventually(bad, 10, "it is told")
            for one in idle:
                told = health(one)[1]
                since = datetime.fromisoformat(str(told["kafka_away_since"]))
                assert abs((since - began).total_seconds()) < 5
                assert "does not answer" in str(told["kafka_away_why"])
            begin()
            eventually(well, 30, "it is told to be back")
    finally:
        broker.signal(signal.SIGCONT)
        processes.end()
        broker.kill()
