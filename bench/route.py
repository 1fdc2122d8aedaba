"""Route: our router against a bare exactly-once consume→produce loop with the same fan-out."""

from __future__ import annotations

import secrets
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from bench import bare
from bench.results import Result
from consumers.router.engine import Router
from consumers.router.memory import Memory
from consumers.router.metrics import RouterMetrics
from consumers.router.plan import Plan
from schemas.codec import Codec
from schemas.contracts import load_contracts
from schemas.topics import Topics, TopicSpec
from services.routing.fields import policy_of
from services.routing.matching import Matcher
from services.routing.redaction import Redactor
from services.runtime.clock import SystemClock
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import Kafka
from services.runtime.settings import KafkaSettings, RouterSettings
from services.subscriptions.control import Subscription

EVENTS = 20_000
SUBSCRIPTIONS = 20
BATCH = RouterSettings().batch
ROUNDS = 4
TYPE = "cn.gov.sc.window.case.accepted"
DIVISIONS = [f"51{n:02d}00" for n in range(SUBSCRIPTIONS)]
BAR = 0.7
"""20 subscriptions, each wanting one of 20 divisions or the next: every event matches two."""


class KnownSchema:
    """One type's schema, as a registry would give it."""

    def __init__(self, kind: str = TYPE) -> None:
        self._kind = kind

    def type_of(self, schema_id: int) -> str | None:
        """Return the type of the one schema."""
        return self._kind if schema_id == 1 else None

    def schema_by_id(self, schema_id: int) -> dict[str, object]:
        """Return the one schema."""
        return load_contracts().types[self._kind].schema

    def id_of(self, subject: str, schema: dict[str, object]) -> int:
        """Return its id."""
        return 1


def subscriptions() -> list[Subscription]:
    """Return the twenty grants: each agency wants two neighbouring divisions."""
    return [
        Subscription(
            f"sub-{n}",
            f"agency-{n}",
            [TYPE],
            [
                {
                    "any": [
                        {"exact": {"division": DIVISIONS[n]}},
                        {"exact": {"division": DIVISIONS[(n + 1) % SUBSCRIPTIONS]}},
                    ]
                }
            ],
        )
        for n in range(SUBSCRIPTIONS)
    ]


def fill(kafka: Kafka, topics: Topics, count: int) -> None:
    """Put events of about 350 bytes with their headers on the input topic."""
    value = b"\x00\x00\x00\x00\x01" + b"x" * 345
    producer = kafka.producer(bulk=True)
    for n in range(count):
        subject = f"SYN-{n:08d}"
        headers = [
            ("ce_id", f"{n:08d}".encode()),
            ("ce_source", b"urn:bench"),
            ("ce_type", TYPE.encode()),
            ("ce_subject", subject.encode()),
            ("ce_time", b"2025-12-02T10:00:00+08:00"),
            ("ce_division", DIVISIONS[n % SUBSCRIPTIONS].encode()),
        ]
        producer.send(topics.events("window"), key=subject.encode(), value=value, headers=headers)
        if n % 5000 == 0:
            producer.flush(30)
    producer.flush(30)
    producer.close()


def ours(kafka: Kafka, topics: Topics, count: int) -> float:
    """Route everything with the product's router; return seconds from the first batch to the last commit."""
    plan = Plan(
        1, Matcher(subscriptions(), SystemClock().now), frozenset(f"agency-{n}" for n in range(20)), frozenset()
    )
    stop = threading.Event()
    metrics = StopAfter(count, stop)
    with tempfile.TemporaryDirectory() as folder:
        memory = Memory(Path(folder))
        codec = Codec(KnownSchema())
        router = Router(
            kafka,
            topics,
            ["window"],
            memory,
            KnownSchema(),
            codec.decode,
            Redactor(KnownSchema(), lambda identity: policy_of(identity, {})),
            lambda: plan,
            metrics,
            slot="0",
            batch=BATCH,
        )
        router.run(stop)
        memory.close()
    return metrics.ended - metrics.began


class StopAfter(RouterMetrics):
    """Notes when the first batch begins and when the last one has committed."""

    def __init__(self, count: int, stop: threading.Event) -> None:
        super().__init__(CollectorRegistry())
        self._left = count
        self._stop = stop
        self.began = 0.0
        self.ended = 0.0

    def batch_begun(self) -> None:
        """Note the first."""
        self.began = self.began or time.perf_counter()

    def batch_committed(self, verdicts: Mapping[str, int]) -> None:
        """Note the last."""
        super().batch_committed(verdicts)
        self._left -= sum(verdicts.values())
        if self._left <= 0:
            self.ended = time.perf_counter()
            self._stop.set()


def measure(address: str) -> list[Result]:
    """Measure both, the other one first each time; the ratio is the median of the pairs'."""
    kafka = connect(KafkaSettings(bootstrap_servers=address))
    admin = kafka.admin()
    pairs = []
    for number in range(ROUNDS):
        topics = Topics(f"bench{secrets.token_hex(3)}.")
        feeds = [TopicSpec(topics.feed(f"agency-{n}"), 1) for n in range(SUBSCRIPTIONS)]
        bare_feeds = [TopicSpec(f"{topics.prefix}bare.{n}", 1) for n in range(SUBSCRIPTIONS)]
        admin.ensure_topics([*topics.base_specs(["window"]), *feeds, *bare_feeds])
        fill(kafka, topics, EVENTS)
        names = [spec.name for spec in bare_feeds]
        group, source = f"{topics.prefix}bare", topics.events("window")
        sides: dict[str, Callable[[], float]] = {
            "ours": partial(ours, kafka, topics, EVENTS),
            "bare": partial(bare.route, address, group, source, EVENTS, _bare_match(names), names, BATCH),
        }
        rates = {side: EVENTS / sides[side]() for side in sorted(sides, reverse=number % 2 == 1)}
        pairs.append((rates["ours"], rates["bare"]))
        admin.delete_topics([name for name in admin.list_topics() if name.startswith(topics.prefix)])
    admin.close()
    ratio = statistics.median(a / b for a, b in pairs)
    mine, plain = (statistics.median(column) for column in zip(*pairs, strict=True))
    return [
        Result(
            "route", round(mine), round(plain), round(ratio, 2), "events/s", f"ratio >= {BAR}, aim 0.9", ratio >= BAR
        )
    ]


def _bare_match(names: Sequence[str]) -> bare.Match:
    pairs = [(DIVISIONS[n].encode(), DIVISIONS[(n + 1) % SUBSCRIPTIONS].encode()) for n in range(SUBSCRIPTIONS)]

    def match(headers: dict[str, bytes]) -> list[str]:
        division = headers["ce_division"]
        return [name for name, pair in zip(names, pairs, strict=True) if division in pair]

    return match
