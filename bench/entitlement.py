"""Entitlement: what more subscriptions, expressions and field policies cost, and a backfill beside live work.

And what a router that remembers two million keys takes to start.
"""

from __future__ import annotations

import base64
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from pydantic import SecretStr

from bench.results import Result
from bench.route import TYPE, KnownSchema, StopAfter
from bench.stack import peak_mb, wait_for
from consumers.router.engine import Router
from consumers.router.memory import Given, Held, Memory, Scope
from consumers.router.plan import Plan
from consumers.router.process import state_folder
from schemas.codec import Codec
from schemas.contracts import Schema, load_contracts
from schemas.registry_client import RegistryClient
from schemas.topics import EVENT_PARTITIONS, Topics, TopicSpec
from schemas.validation import ValidationRules, Validator
from services.routing.fields import policy_of
from services.routing.matching import Matcher
from services.routing.redaction import Redactor
from services.runtime.clock import SystemClock
from services.runtime.embedded.ports import free_port
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import Kafka, Partition, Producer
from services.runtime.settings import KafkaSettings, Settings, as_environment, with_environment
from services.subscriptions.control import Subscription, policy_id

EVENTS = 6_000
COUNTS = (20, 200, 2_000)
KEYS = 2_000_000
PAST = 10_000
LIVE = 3_000
LIVE_RATE = 200
FIELDS = {"levels": ["public"], "mask": ["department"]}


class GrowingSchemas(KnownSchema):
    """The one schema, and what is derived from it."""

    def __init__(self) -> None:
        super().__init__()
        self._derived: list[Schema] = []

    def schema_by_id(self, schema_id: int) -> Schema:
        """Return a schema."""
        return super().schema_by_id(schema_id) if schema_id == 1 else self._derived[schema_id - 2]

    def id_of(self, subject: str, schema: Schema) -> int:
        """Return its id."""
        if schema not in self._derived:
            self._derived.append(schema)
        return self._derived.index(schema) + 2


def grants(count: int) -> list[Subscription]:
    """Return so many grants over as many sources, two of which want each event; ten share an agency's feed.

    One in ten asks an expression of the data too; half have a field policy.
    """
    found = []
    for n in range(count):
        filters: list[dict[str, Any]] = [{"any": [{"exact": {"division": f"{(n + d) % count:06d}"}} for d in (0, 1)]}]
        if n % 10 == 0:
            filters.append({"cel": "data.project_no != ''"})
        fields = FIELDS if n % 2 else None
        found.append(Subscription(f"sub-{n}", f"agency-{n % 20}", [TYPE], filters, fields=fields))
    return found


def fill(kafka: Kafka, topics: Topics, count: int, wanted: int) -> None:
    """Put real events on the input topic, each of a division that two grants want."""
    contract = load_contracts().types[TYPE]
    value = Codec(KnownSchema()).encode(contract.subject, contract.schema, _valid())
    producer = kafka.producer(bulk=True)
    for n in range(count):
        key = f"SYN-{n:08d}"
        attributes = {"id": f"{n:08d}", "source": "urn:bench", "type": TYPE, "subject": key}
        attributes |= {"time": "2025-12-02T10:00:00+08:00", "division": f"{n % wanted:06d}"}
        headers = [(f"ce_{name}", text.encode()) for name, text in attributes.items()]
        producer.send(topics.events("window"), key=key.encode(), value=value, headers=headers)
    producer.flush(60)
    producer.close()


def _valid() -> dict[str, Any]:
    contract = load_contracts().types[TYPE]
    return Validator(contract, ValidationRules()).validate(contract.sample, datetime.now(UTC)).data


def rate(kafka: Kafka, count: int) -> float:
    """Return events a second through the product's router under so many grants."""
    topics = Topics(f"bench{secrets.token_hex(3)}.")
    admin = kafka.admin()
    specs = [TopicSpec(topics.feed(f"agency-{n}"), 1) for n in range(20)]
    admin.ensure_topics([*topics.base_specs(["window"]), *specs])
    fill(kafka, topics, EVENTS, count)
    wanted = grants(count)
    policies = {s.id: s.policy() for s in wanted if s.fields is not None}
    agencies = frozenset(f"agency-{n}" for n in range(20))
    plan = Plan(1, Matcher(wanted, SystemClock().now), agencies, frozenset(), policies=policies)
    schemas, stop = GrowingSchemas(), threading.Event()
    redactor = Redactor(schemas, lambda identity: policy_of(identity, {policy_id(FIELDS): FIELDS}))
    metrics = StopAfter(EVENTS, stop)
    with tempfile.TemporaryDirectory() as folder:
        memory = Memory(Path(folder))
        decode = Codec(schemas).decode
        Router(
            kafka, topics, ["window"], memory, schemas, decode, redactor, lambda: plan, metrics, slot="0", batch=2000
        ).run(stop)
        memory.close()
    admin.delete_topics([name for name in admin.list_topics() if name.startswith(topics.prefix)])
    admin.close()
    return EVENTS / (metrics.ended - metrics.began)


class Installed:
    """A registry, a portal and a router over topics of their own, each a process of the product."""

    def __init__(self, address: str, folder: Path) -> None:
        self.topics = Topics(f"bench{secrets.token_hex(3)}.")
        self.settings = Settings(
            data_dir=folder, kafka=KafkaSettings(bootstrap_servers=address, topic_prefix=self.topics.prefix)
        )
        self.settings.security.master_key = SecretStr(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
        self.kafka = connect(self.settings.kafka)
        admin = self.kafka.admin()
        admin.ensure_topics(self.topics.base_specs(load_contracts().domains()))
        admin.ensure_topics(self.topics.agency_specs("live"))
        admin.ensure_topics(self.topics.agency_specs("past"))
        admin.close()
        self.processes: list[subprocess.Popen[bytes]] = []
        port = self.start("serve", "registry")
        self.settings.registry.url = f"http://127.0.0.1:{port}"
        self._control = self.kafka.producer()

    def start(self, verb: str, name: str) -> int:
        """Start a process, wait until it is healthy, and return its port."""
        port = free_port()
        command = [sys.executable, "-m", "hongyan", verb, name, "--port", str(port)]
        environment = with_environment(as_environment(self.settings))
        self.processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL))
        wait_for(lambda: _healthy(port), 120)
        return port

    def put(self, key: str, **entry: object) -> None:
        """Write a control record, as the relay does."""
        value = orjson.dumps(entry)
        self._control.send(self.topics.control_subscriptions, key=key.encode(), value=value, partition=0).result(10)

    def close(self) -> None:
        """End the processes and delete the topics."""
        for process in self.processes:
            process.kill()
            process.wait(20)
        admin = self.kafka.admin()
        admin.delete_topics([name for name in admin.list_topics() if name.startswith(self.topics.prefix)])
        admin.close()


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def remembered(address: str) -> tuple[float, float]:
    """Return seconds until a router that remembers two million keys works, and its peak memory (MB)."""
    with tempfile.TemporaryDirectory(prefix="hongyan-bench-") as name:
        installed = Installed(address, Path(name))
        try:
            memory = Memory(state_folder(installed.kafka, installed.settings))
            scopes = [Scope(Partition(installed.topics.events("window"), n)) for n in range(EVENT_PARTITIONS)]
            held = Held({"agency-1": Given("", 1), "agency-2": Given("aa", 1)}).to_bytes()
            for begin in range(0, KEYS, 50_000):
                changes = {}
                for n in range(begin, begin + 50_000):
                    scope = scopes[n % EVENT_PARTITIONS]
                    changes[scope.identity(n.to_bytes(16, "big"))] = b"d" * 16
                    changes[scope.key(f"SYN-510000-2025-{n:08d}".encode())] = held
                memory.write(changes, {})
            memory.close()
            began = time.perf_counter()
            installed.start("run", "router")
            return time.perf_counter() - began, peak_mb(installed.processes[-1].pid)
        finally:
            installed.close()


def beside(address: str) -> tuple[float, float, float]:
    """Return the rate of a backfill (events/s), and the live p99 (ms, publication to feed) beside it and without.

    Without is the mean of before and after: the machine is not the same from one half minute to the next.
    """
    with tempfile.TemporaryDirectory(prefix="hongyan-bench-") as name:
        installed = Installed(address, Path(name))
        try:
            topics = installed.topics
            for agency in ("live", "past"):
                installed.put(f"agency/{agency}", id=agency, name=agency, division="", sink="http://x", secret="s")
            installed.put("subscription/live", id="live", agency="live", types=[TYPE])
            contract = load_contracts().types[TYPE]
            registered = Codec(RegistryClient(installed.settings.registry.url)).encode(
                contract.subject, contract.schema, _valid()
            )
            producer = installed.kafka.producer()
            publish = _publisher(producer, topics, registered)
            for n in range(PAST):
                publish(f"past-{n}")
            producer.flush(60)
            installed.start("run", "router")
            wait_for(lambda: _end(installed.kafka, topics.feed("live")) >= PAST, 120)
            before = _live(installed, publish, "a")
            begun = "2025-01-01T00:00:00+08:00"
            began = time.perf_counter()
            installed.put("subscription/past", id="past", agency="past", types=[TYPE], backfill_from=begun)
            busy = _live(installed, publish, "b")
            seconds, reached = time.perf_counter() - began, _ends(installed.kafka, topics.feed("past"))
            given = _end(installed.kafka, topics.feed("past"), reached)
            if given >= PAST:
                raise RuntimeError("the backfill was done before the live events were")
            _await_backfill(installed)
            after = _live(installed, publish, "c")
            return given / seconds, busy, (before + after) / 2
        finally:
            installed.close()


def _publisher(producer: Producer, topics: Topics, value: bytes) -> Callable[[str], None]:
    def publish(name: str) -> None:
        attributes = {"id": name, "source": "urn:bench", "type": TYPE, "subject": name}
        headers = [(f"ce_{k}", v.encode()) for k, v in (attributes | {"time": "2025-12-02T10:00:00+08:00"}).items()]
        producer.send(topics.events("window"), key=name.encode(), value=value, headers=headers)

    return publish


def _end(kafka: Kafka, topic: str, below: int | None = None) -> int:
    """Return how many events a feed holds now, below an offset."""
    reader = kafka.consumer(None)
    partition = Partition(topic, 0)
    reader.assign([partition])
    found = [record.offset for _ in range(40) for records in reader.poll(0.05, 5000).values() for record in records]
    reader.close()
    return sum(1 for offset in found if below is None or offset < below)


def _ends(kafka: Kafka, topic: str) -> int:
    reader = kafka.consumer(None)
    found = reader.end_offsets([Partition(topic, 0)])[Partition(topic, 0)]
    reader.close()
    return found


def _await_backfill(installed: Installed) -> None:
    """Wait until every partition's progress says that it is done."""
    reader, done = installed.kafka.consumer(None), set[bytes]()
    reader.assign([Partition(installed.topics.control_backfill, 0)])
    while len(done) < EVENT_PARTITIONS:
        for records in reader.poll(0.5, 500).values():
            done |= {record.key or b"" for record in records if orjson.loads(record.value or b"{}")["done"]}
    reader.close()


def _live(installed: Installed, publish: Callable[[str], None], name: str) -> float:
    """Publish at the rate, and return the p99 of publication to feed (ms)."""
    partition = Partition(installed.topics.feed("live"), 0)
    reader = installed.kafka.consumer(None)
    reader.assign([partition])
    reader.seek(partition, reader.end_offsets([partition])[partition])
    sent: dict[str, float] = {}
    arrived: dict[str, float] = {}

    def read() -> None:
        while len(arrived) < LIVE:
            for records in reader.poll(0.2, 500).values():
                now = time.perf_counter()
                for record in records:
                    arrived.setdefault((record.key or b"").decode(), now)

    thread = threading.Thread(target=read)
    thread.start()
    pause, began = threading.Event(), time.perf_counter()
    for n in range(LIVE):
        pause.wait(max(0.0, began + n / LIVE_RATE - time.perf_counter()))
        sent[f"{name}-{n}"] = time.perf_counter()
        publish(f"{name}-{n}")
    thread.join(60)
    reader.close()
    took = sorted((arrived[key] - at) * 1000 for key, at in list(sent.items())[100:])
    return took[int(len(took) * 0.99)]


def measure(address: str) -> list[Result]:
    """Measure each in turn."""
    kafka = connect(KafkaSettings(bootstrap_servers=address))
    rates = {count: statistics.median(rate(kafka, count) for _ in range(2)) for count in COUNTS}
    results = [
        Result(f"entitlement_route_{count}", round(rates[count]), None, None, "events/s", "measured", True)
        for count in COUNTS
    ]
    slower = rates[COUNTS[0]] / rates[COUNTS[-1]]
    bar = "100 times the subscriptions cost at most 2x"
    results.append(Result("entitlement_growth", round(slower, 2), 1.0, round(slower, 2), "x", bar, slower <= 2.0))
    seconds, peak = remembered(address)
    bar = "2 million keys: at most 10 s, at most 200 MB"
    results.append(Result("router_restart", round(seconds, 2), None, None, "s", bar, seconds <= 10))
    results.append(Result("router_restart_memory", round(peak), None, None, "MB", bar, peak <= 200))
    pace, busy, alone = beside(address)
    results.append(Result("backfill", round(pace), None, None, "events/s beside 200/s live", "measured", True))
    ratio = round(busy / alone, 2)
    results.append(
        Result("backfill_live_p99", round(busy, 1), round(alone, 1), ratio, "ms", "at most 1.2x of alone", ratio <= 1.2)
    )
    return results
