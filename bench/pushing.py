"""A registry and a pusher to measure, with agencies and feeds on the measurement's own Kafka."""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import SecretStr

from bench.stack import peak_mb, wait_for
from producers.publishing import Publishing
from schemas.contracts import load_contracts
from schemas.envelope import binary_headers
from schemas.registry_client import RegistryClient
from schemas.topics import Topics
from services.identity.repository import key_digest
from services.runtime.clock import SystemClock
from services.runtime.embedded.ports import answers, free_port
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import Partition
from services.runtime.settings import Settings, as_environment
from services.subscriptions.sealing import Sealer, new_secret

TYPE = "cn.gov.sc.health.medical-ad-certificate.issued"


class Pushing:
    """One measurement's installation; close it in the end."""

    def __init__(self, address: str, **delivery: object) -> None:
        self.topics = Topics(f"b-{secrets.token_hex(4)}.")
        self._folder = tempfile.TemporaryDirectory(prefix="hongyan-bench-")
        settings = Settings(data_dir=Path(self._folder.name))
        settings.kafka.bootstrap_servers, settings.kafka.topic_prefix = address, self.topics.prefix
        settings.delivery = settings.delivery.model_copy(update={"allowed_networks": ["127.0.0.0/8"], **delivery})
        key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        settings.security.master_key = SecretStr(key)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._settings = settings
        self._sealer = Sealer(settings.security)
        self.kafka = connect(settings.kafka)
        self.admin = self.kafka.admin()
        self.admin.ensure_topics(self.topics.base_specs(["health"]))
        self._producer = self.kafka.producer()
        settings.registry.url = f"http://127.0.0.1:{self._start('serve', 'registry')}"
        url, contracts = settings.registry.url, load_contracts()
        publishing = Publishing(contracts, RegistryClient(url), url, self.topics, settings.gateway, SystemClock())
        attributes = {"type": TYPE, "id": "sample", "source": "urn:bench"}
        self.value = publishing.prepare(attributes, contracts.types[TYPE].sample).value

    def agencies(self, sinks: Mapping[str, str], **delivery: object) -> None:
        """Make agencies known, each with its sink."""
        self.admin.ensure_topics(spec for agency in sinks for spec in self.topics.agency_specs(agency))
        for agency, sink in sinks.items():
            keys = [{"id": "sig", "sealed": self._sealer.seal(new_secret())}]
            entry = {"id": agency, "name": agency, "division": "510000", "sink": sink, "keys": keys}
            self._put(f"agency/{agency}", entry | {"delivery": delivery})
            self._put(f"subscription/{agency}", {"id": agency, "agency": agency, "types": [TYPE]})

    def pulling(self, keys: Mapping[str, str]) -> None:
        """Have agencies pull, each with its key."""
        for agency, key in keys.items():
            held = [{"id": "key-1", "digest": key_digest(key), "expires_at": None}]
            self._put(f"access/{agency}", {"agency": agency, "channel": "pull", "version": 1, "keys": held})

    def start(self) -> int:
        """Start a pusher and return its process id."""
        self._start("run", "pusher")
        return self._processes["pusher"].pid

    def serve_feeds(self) -> str:
        """Start the feeds API and return its address; it answers a moment later."""
        return f"http://127.0.0.1:{self._start('serve', 'feeds')}"

    def append(self, agency: str, event_id: str, age_s: float = 0.0) -> None:
        """Append an event to a feed that was published a while ago; it is on its way when this returns."""
        at = time.time() - age_s
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
        attributes = {
            "specversion": "1.0",
            "id": event_id,
            "source": "urn:bench",
            "type": TYPE,
            "subject": event_id,
            "time": now,
            "recordedtime": now,
        }
        headers = binary_headers(attributes)
        self._producer.send(
            self.topics.feed(agency),
            key=event_id.encode(),
            value=self.value,
            headers=headers,
            partition=0,
            timestamp_ms=int(at * 1000),
        )

    def learn(self, agencies: Iterable[str]) -> None:
        """Have the producer know these feeds: its first send to each waits, and would delay those after it."""
        for agency in agencies:
            self.append(agency, f"first-{agency}")
        self.flush()

    def flush(self) -> None:
        """Wait until everything appended is on the log."""
        self._producer.flush(60)

    def behind(self, agencies: Sequence[str]) -> int:
        """Return how many records stand in front of the cursors."""
        held = self.admin.group_offsets(self.topics.group("pusher"))
        reader = self.kafka.consumer(None)
        feeds = [Partition(self.topics.feed(agency), 0) for agency in agencies]
        ends = reader.end_offsets(feeds)
        reader.close()
        return sum(end - (held[feed].offset if feed in held else 0) for feed, end in ends.items())

    def peak_mb(self, process: str = "pusher") -> float:
        """Return the peak memory of one of our processes."""
        return peak_mb(self._processes[process].pid)

    def close(self) -> None:
        """Stop the processes and remove the topics."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait(30)
        self._producer.close()
        self.admin.delete_topics([name for name in self.admin.list_topics() if name.startswith(self.topics.prefix)])
        self.admin.close()
        self._folder.cleanup()

    def _put(self, key: str, value: Mapping[str, Any]) -> None:
        topic = self.topics.control_subscriptions
        self._producer.send(topic, key=key.encode(), value=orjson.dumps(value), partition=0).result(30)

    def _start(self, verb: str, name: str) -> int:
        port = free_port()
        command = [sys.executable, "-m", "hongyan", verb, name, "--port", str(port)]
        environment = os.environ | as_environment(self._settings)
        self._processes[name] = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        wait_for(lambda: answers(port) and _healthy(port), 60)
        return port


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def paced(count: int, rate: float, append: Any) -> dict[str, float]:  # noqa: ANN401  (a function of agency and id)
    """Append at a rate, and return when each call began, by id."""
    sent: dict[str, float] = {}
    pause = threading.Event()
    began = time.monotonic()
    for n in range(count):
        pause.wait(max(0.0, began + n / rate - time.monotonic()))
        name = f"{n:07d}"
        sent[name] = time.time()
        append(n, name)
    return sent
