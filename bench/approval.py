"""From a decision of the data's owner to its effect in router and pusher, over a whole installation under load.

An approval has its effect when the first event that is published after the answer is delivered; a suspension, once the
last event that was published is routed, and the last request is made.
"""

from __future__ import annotations

import math
import tempfile
import threading
import time
from pathlib import Path

from bench.results import Result
from bench.stack import LAW, Answering, settings_of, wait_for
from producers.client import Publisher
from producers.demonstration.installation import Installation
from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import Kafka, Partition

TYPE = "cn.gov.sc.health.medical-ad-certificate.issued"
CYCLES = 30
PAUSE_S = 0.01
SETTLE_S = 1.2


class Load:
    """Publishes all the time, and notes when each event was."""

    def __init__(self, publisher: Publisher) -> None:
        self.sent: dict[str, float] = {}
        self._publisher = publisher
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        sample, n = load_contracts().types[TYPE].sample, 0
        while not self._stop.wait(PAUSE_S):
            name = f"{n:07d}"
            self.sent[name] = time.time()
            self._publisher.publish(TYPE, {**sample, "certificate_no": f"（川）医广〔2025〕第{name}号"}, id=name)
            n += 1

    def close(self) -> None:
        """End it."""
        self._stop.set()
        self._thread.join()


def measure(_address: str) -> list[Result]:
    """Approve and suspend thirty times each."""
    with tempfile.TemporaryDirectory(prefix="hongyan-bench-") as folder:
        Path(folder).chmod(0o755)
        installation = Installation(Path(folder))
        try:
            return _results(*_decide(installation))
        finally:
            installation.stop()


def _results(approved: list[float], routed: list[float], pushed: list[float]) -> list[Result]:
    worst = [max(pair) for pair in zip(routed, pushed, strict=True)]
    found = (("approval_effect_p99", approved), ("suspension_effect_p99", worst))
    results = []
    for name, samples in found:
        ordered = sorted(samples)
        p99 = round(ordered[math.ceil(0.99 * len(ordered)) - 1] * 1000)
        results.append(Result(name, p99, None, None, f"ms over {len(ordered)}", "p99 under 1 s", p99 < 1000))
    return results


def _decide(installation: Installation) -> tuple[list[float], list[float], list[float]]:
    settings, receiver, pause = settings_of(installation), Answering(), threading.Event()
    owner = {"id": "owner", "name": "bench", "source": "urn:bench:owner", "types": [TYPE]}
    installation.administer("/v1/agencies", {"id": "bench", "name": "b", "division": "510000", "sink": receiver.url})
    installation.administer("/v1/agencies/bench/verify", {})
    installation.administer("/v1/departments", owner)
    kafka, feed = connect(settings.kafka), Topics(settings.kafka.topic_prefix).feed("bench")
    approved, routed, pushed = [], [], []
    with Publisher(settings, "urn:bench") as publisher:
        load = Load(publisher)
        for _ in range(CYCLES):
            grant = installation.subscribe({"agency": "bench", "types": [TYPE], **LAW}, "owner")["id"]
            answered = time.time()
            wait_for(lambda at=answered: any(load.sent[n] > at for n in list(receiver.ids)))  # type: ignore[misc]
            approved.append(min(at for n, at in list(receiver.ids.items()) if load.sent[n] > answered) - answered)
            pause.wait(SETTLE_S)
            installation.administer(f"/v1/subscriptions/{grant}/suspend", {"reason": "bench"})
            answered = time.time()
            pause.wait(SETTLE_S)
            pushed.append(max(0.0, max(receiver.ids.values()) - answered))
            routed.append(max(0.0, load.sent[_last(kafka, feed)] - answered))
            installation.administer(f"/v1/subscriptions/{grant}/terminate", {"reason": "bench"})
        load.close()
    return approved, routed, pushed


def _last(kafka: Kafka, feed: str) -> str:
    """Return the id of the newest event in a feed."""
    reader, partition, found = kafka.consumer(None), Partition(feed, 0), ""
    reader.assign([partition])
    end = reader.end_offsets([partition])[partition]
    reader.seek(partition, max(0, end - 200))
    while reader.position(partition) < end:
        for records in reader.poll(0.2, 500).values():
            found = dict(records[-1].headers)["ce_id"].decode()
    reader.close()
    return found
