"""Latency at 200 events/s, from the publish call to 2xx: ours against a bare two-hop loop, in the same run."""

from __future__ import annotations

import math
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from kafka import KafkaProducer

from bench.results import Result
from bench.stack import Answering, settings_of, subscribe, wait_for
from producers.client import Publisher
from producers.demonstration.installation import Installation
from schemas.contracts import load_contracts
from schemas.topics import TopicSpec
from services.runtime.kafka.client import connect

RATE = 200
SECONDS = 10
WARM_UP = 400
TYPE = "cn.gov.sc.health.medical-ad-certificate.issued"


def measure(_address: str) -> list[Result]:
    """Measure both on one installation's Kafka, ours first."""
    with tempfile.TemporaryDirectory(prefix="hongyan-bench-") as folder:
        Path(folder).chmod(0o755)
        installation = Installation(Path(folder))
        try:
            ours = _ours(installation)
            plain = _bare(installation)
        finally:
            installation.stop()
    results = []
    for name, share, bar in (("latency_p50", 0.5, 2.0), ("latency_p99", 0.99, 3.0)):
        mine, other = _percentile(ours, share), _percentile(plain, share)
        ratio = round(mine / other, 2)
        results.append(
            Result(name, round(mine, 1), round(other, 1), ratio, "ms", f"at most {bar}x of bare", ratio <= bar)
        )
    return results


def _ours(installation: Installation) -> list[float]:
    settings = settings_of(installation)
    receiver = Answering()
    subscribe(installation, "bench", receiver.url, [TYPE])
    threading.Event().wait(1.0)
    sample = load_contracts().types[TYPE].sample
    with Publisher(settings, "urn:bench") as publisher:

        def publish(event_id: str) -> None:
            publisher.publish(TYPE, {**sample, "certificate_no": f"（川）医广〔2025〕第{event_id}号"}, id=event_id)

        sent = _paced(publish)
        wait_for(lambda: len(receiver.ids) >= len(sent), 60)
    return [(receiver.ids[name] - at) * 1000 for name, at in list(sent.items())[WARM_UP:]]


def _bare(installation: Installation) -> list[float]:
    settings = settings_of(installation)
    address = settings.kafka.bootstrap_servers or ""
    receiver = Answering()
    source, feed = f"bare.{secrets.token_hex(3)}", f"bare.{secrets.token_hex(3)}.feed"
    admin = connect(settings.kafka).admin()
    admin.ensure_topics([TopicSpec(source, 12), TopicSpec(feed, 1)])
    admin.close()
    command = [sys.executable, "-m", "bench.bare_hops"]
    router = subprocess.Popen([*command, "router", address, source, feed])
    pusher = subprocess.Popen([*command, "pusher", address, feed, receiver.url])
    threading.Event().wait(4.0)
    producer = KafkaProducer(bootstrap_servers=address, linger_ms=0)
    value = b"x" * 450

    def publish(event_id: str) -> None:
        producer.send(source, key=event_id.encode(), value=value, headers=[("ce_id", event_id.encode())])

    try:
        sent = _paced(publish)
        wait_for(lambda: len(receiver.ids) >= len(sent), 60)
    finally:
        router.kill()
        pusher.kill()
        producer.close()
    return [(receiver.ids[name] - at) * 1000 for name, at in list(sent.items())[WARM_UP:]]


def _paced(publish: Callable[[str], None]) -> dict[str, float]:
    """Publish at the rate, and return when each publish call began."""
    sent: dict[str, float] = {}
    pause = threading.Event()
    began = time.monotonic()
    for n in range(RATE * SECONDS + WARM_UP):
        pause.wait(max(0.0, began + n / RATE - time.monotonic()))
        sent[f"{n:07d}"] = time.time()
        publish(f"{n:07d}")
    return sent


def _percentile(samples: list[float], share: float) -> float:
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
