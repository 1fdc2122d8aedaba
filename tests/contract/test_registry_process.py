"""The registry as a process: it starts from its log, stops when asked, and stays small."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psutil

from schemas.contracts import load_contracts
from schemas.registry_client import RegistryClient
from services.runtime.embedded.ports import free_port
from tests.conditions import eventually
from tests.conftest import OwnTopics

MAX_MEMORY = 90_000_000


@contextmanager
def registry_process(kafka_address: str, topics: OwnTopics, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``hongyan serve registry`` until the block ends."""
    environment = os.environ | {
        "HONGYAN_KAFKA__BOOTSTRAP_SERVERS": kafka_address,
        "HONGYAN_KAFKA__TOPIC_PREFIX": topics.prefix,
    }
    command = [sys.executable, "-c", "import hongyan; hongyan.main()", "serve", "registry", "--port", str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: healthy(port), within_s=30, what="the registry's health")
            yield process
        finally:
            process.kill()


def healthy(port: int) -> bool:
    """Tell whether the process answers and has read its log."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(json.load(answer)["status"] == "ok")
    except (urllib.error.URLError, ConnectionError):
        return False


def test_a_killed_registry_comes_back_with_the_same_ids_and_a_stopped_one_leaves_in_order(
    kafka_address: str, topics: OwnTopics
) -> None:
    """SIGKILL costs nothing that was answered; SIGTERM ends it with status 0; memory stays below the limit."""
    port = free_port()
    contracts = load_contracts().types.values()
    with closing(RegistryClient(f"http://127.0.0.1:{port}")) as client:
        with registry_process(kafka_address, topics, port) as process:
            ids = {contract.subject: client.register(contract.subject, contract.schema) for contract in contracts}
            process.send_signal(signal.SIGKILL)
            process.wait(10)
        with registry_process(kafka_address, topics, port) as process:
            assert {c.subject: client.lookup(c.subject, c.schema) for c in contracts} == ids
            assert {c.subject: client.register(c.subject, c.schema) for c in contracts} == ids
            assert client.register("new", {"type": "string"}) == max(ids.values()) + 1
            assert psutil.Process(process.pid).memory_info().rss < MAX_MEMORY
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
