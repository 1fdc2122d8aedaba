"""What seeing costs: a look at five hundred feeds, and what monitor, ledger and probe take from delivery."""

from __future__ import annotations

import os
import secrets
import signal
import statistics
import tempfile
import threading
import time
from pathlib import Path

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient

from bench.results import Result
from bench.stack import Answering, settings_of, subscribe, wait_for
from consumers.ledger.engine import input_specs
from consumers.monitor.meter import LagMeter
from producers.client import Publisher
from producers.demonstration.installation import Installation
from schemas.contracts import load_contracts
from schemas.receipts import Channel
from schemas.topics import Topics, TopicSpec
from services.runtime.clock import SystemClock
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import Admin, Partition, TransactionalProducer
from services.runtime.settings import KafkaSettings

FEEDS = 500
WAITING = 20
LOOKS = 9
RATE = 100
SECONDS = 8
WARM_UP = 100
ROUNDS = 4
TYPE = "cn.gov.sc.health.medical-ad-certificate.issued"
WATCHERS = ("monitor", "ledger", "alerter")
"""The processes that only watch; the probe goes with the monitor."""


def measure(address: str) -> list[Result]:
    """Measure both."""
    return [*_looks(address), *_cost()]


def _looks(address: str) -> list[Result]:
    """A look at 500 feeds, each with something new since the last one, against asking Kafka for the offsets alone."""
    topics, kafka = Topics(f"b-{secrets.token_hex(3)}."), connect(KafkaSettings(bootstrap_servers=address))
    admin, contracts = kafka.admin(), load_contracts()
    channels: dict[str, Channel] = {f"a{n:03d}": "webhook" for n in range(FEEDS)}
    feeds = [topics.feed(agency) for agency in channels]
    admin.ensure_topics([*topics.base_specs(contracts.domains()), *(TopicSpec(feed, 1) for feed in feeds)])
    producer = kafka.transactional_producer(topics.transactional_id("bench", "0"))
    try:
        producer.learn(feeds)
        _append(producer, feeds, WAITING)
        meter = LagMeter(kafka, topics, contracts, SystemClock())
        try:
            first = meter.measure(channels).took_s
            took = []
            for _ in range(LOOKS):
                _append(producer, feeds, 1)
                snapshot = meter.measure(channels)
                took.append(snapshot.took_s)
        finally:
            meter.close()
        assert {one.backlog for one in snapshot.agencies} == {WAITING + LOOKS}
        bare = _offsets_alone(address, topics, feeds)
    finally:
        producer.close()
        admin.delete_topics([name for name in admin.list_topics() if name.startswith(topics.prefix)])
        admin.close()
    ours = statistics.median(took)
    return [
        Result("monitor_500_first", round(first, 3), None, None, "s", "at most 2", first <= 2.0),
        Result("monitor_500", round(ours, 3), round(bare, 3), round(ours / bare, 2), "s", "under 1", ours < 1.0),
    ]


def _append(producer: TransactionalProducer, feeds: list[str], count: int) -> None:
    """Append to every feed in one transaction, as the router does: each gets the end of one too."""
    headers = [("ce_recordedtime", b"2026-01-01T00:00:00+00:00"), ("ce_type", TYPE.encode())]
    producer.begin()
    for _ in range(count):
        for feed in feeds:
            producer.send(feed, key=b"k", value=b"x" * 350, headers=headers, partition=0)
    producer.commit()


def _offsets_alone(address: str, topics: Topics, feeds: list[str]) -> float:
    """Return the seconds to ask for what four groups have committed and where the same partitions end."""
    admin, consumer = KafkaAdminClient(bootstrap_servers=address), KafkaConsumer(bootstrap_servers=address)
    places = [TopicPartition(feed, 0) for feed in feeds]
    places += [TopicPartition(topics.events(d), n) for d in load_contracts().domains() for n in range(12)]
    groups = [topics.group(name) for name in ("router", "pusher", "statistics", "ledger")]
    took = []
    for _ in range(LOOKS):
        began = time.monotonic()
        admin.list_group_offsets(groups)
        consumer.end_offsets(places)
        took.append(time.monotonic() - began)
    admin.close()
    consumer.close()
    return statistics.median(took)


def _cost() -> list[Result]:
    """The p50 from the publish call to 2xx with monitor, ledger and probe at work, and with them stopped, in turn."""
    with tempfile.TemporaryDirectory(prefix="hongyan-bench-") as folder:
        Path(folder).chmod(0o755)
        installation = Installation(Path(folder))
        try:
            watched, alone = _in_turn(installation)
        finally:
            installation.stop()
    ratio = round(watched / alone, 3)
    bar = "watching costs at most 5 %"
    return [Result("monitor_cost_p50", round(watched, 2), round(alone, 2), ratio, "ms", bar, ratio <= 1.05)]


def _catch_up(admin: Admin, topics: Topics) -> None:
    """Wait until the ledger has read all that is on the log now."""
    specs = input_specs(topics, load_contracts())
    ends = admin.log_ends([Partition(spec.name, number) for spec in specs for number in range(spec.partitions)])

    def has_read() -> bool:
        read = admin.group_offsets(topics.group("ledger"))
        return all(one in read and read[one].offset >= end for one, end in ends.items() if end)

    wait_for(has_read, 120)


def _in_turn(installation: Installation) -> tuple[float, float]:
    settings, receiver = settings_of(installation), Answering()
    topics, admin = Topics(settings.kafka.topic_prefix), connect(settings.kafka).admin()
    subscribe(installation, "bench", receiver.url, [TYPE])
    pids = [installation.stack["pids"][name] for name in WATCHERS]
    sample, found = load_contracts().types[TYPE].sample, {True: [0.0][:0], False: [0.0][:0]}
    with Publisher(settings, "urn:bench") as publisher:

        def publish(name: str) -> None:
            publisher.publish(TYPE, {**sample, "certificate_no": f"（川）医广〔2025〕第{name}号"}, id=name)

        for turn in range(2 * ROUNDS):
            watching = turn % 4 in {0, 3}  # who goes first in a pair alternates
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            _catch_up(admin, topics)  # what the round before left to the ledger is no cost of this one
            for pid in pids if not watching else ():
                os.kill(pid, signal.SIGSTOP)
            sent: dict[str, float] = {}
            began, pause = time.monotonic(), threading.Event()
            for n in range(RATE * SECONDS):
                pause.wait(max(0.0, began + n / RATE - time.monotonic()))
                name = f"{turn * 100_000 + n:07d}"
                sent[name] = time.time()
                publish(name)
            wait_for(lambda sent=sent: sent.keys() <= receiver.ids.keys(), 60)  # type: ignore[misc]
            found[watching] += [(receiver.ids[name] - at) * 1000 for name, at in list(sent.items())[WARM_UP:]]
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    admin.close()
    return statistics.median(found[True]), statistics.median(found[False])
