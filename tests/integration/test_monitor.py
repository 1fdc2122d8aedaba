"""The monitor on a broker that nobody has used yet, and on what foreign producers put into a feed."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.runtime.kafka.client import connect
from services.runtime.settings import KafkaSettings, Settings, as_environment, with_environment
from tests.broker import Broker
from tests.conditions import eventually
from tests.configuration import Configuration
from tests.processes import Processes, Running

pytestmark = pytest.mark.servers

ODD_TIMES = (b"2026-01-01T11:59:00", b"yesterday", b"\xff")


def lag(settings: Settings) -> dict[str, Any]:
    """Return what ``hongyan lag`` says."""
    command = [sys.executable, "-m", "hongyan", "lag", "--json"]
    done = subprocess.run(
        command, env=with_environment(as_environment(settings)), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def metric(monitor: Running, name: str) -> float | None:
    """Return a figure of the monitor's own page."""
    with urllib.request.urlopen(f"{monitor.url}/metrics", timeout=5) as page:
        lines = page.read().decode().splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)), None)


def test_times_that_can_not_be_read_stop_nothing(installation: Settings, tmp_path: Path) -> None:
    """A time without its offset, none at all and no text are counted and outlived, by the monitor and the command."""
    processes, broker, topics = Processes(tmp_path), Broker(tmp_path), Topics()
    own = installation.model_copy(deep=True)
    own.kafka = KafkaSettings(bootstrap_servers=broker.kafka.address)
    kafka = connect(own.kafka)
    try:
        broker.start()
        with closing(kafka.admin()) as admin:
            admin.ensure_topics([*topics.base_specs(load_contracts().domains()), *topics.agency_specs("market")])
        monitor = processes.start("monitor", own)
        with closing(Configuration(kafka, topics, own)) as configuration:
            configuration.agency("market", "http://127.0.0.1:9/never")
        with closing(kafka.producer()) as producer:
            for odd in ODD_TIMES:
                headers = [("ce_recordedtime", odd)]
                producer.send(topics.feed("market"), key=b"k", value=b"v", headers=headers, partition=0).result(10)
        eventually(lambda: metric(monitor, "hongyan_backlog_events") == len(ODD_TIMES))
        assert metric(monitor, "hongyan_monitor_unreadable_records_total") == len(ODD_TIMES)
        told = lag(own)
        assert (told["agencies"][0]["backlog"], told["unreadable"]) == (len(ODD_TIMES), len(ODD_TIMES))
    finally:
        processes.end()
        broker.kill()
