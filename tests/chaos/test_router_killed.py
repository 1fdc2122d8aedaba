"""The router under SIGKILL: every event is routed exactly once, in order per key."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict

import pytest

from schemas.topics import EVENT_PARTITIONS, Topics
from services.runtime.kafka.port import Kafka
from services.runtime.settings import Settings
from tests.conditions import eventually
from tests.configuration import Configuration
from tests.conftest import OwnTopics
from tests.events import ACCEPTED, TestEvents, attribute, document, read_all
from tests.processes import Processes, Running

pytestmark = pytest.mark.servers

KEYS = 60
TOTAL = 6000
CHUNK = 40
KILLS = ("a", "b", "a", "b")


def test_events_are_routed_exactly_once_whatever_is_killed(
    kafka: Kafka,
    topics: Topics,
    own: OwnTopics,
    events: TestEvents,
    configuration: Configuration,
    installation: Settings,
    processes: Processes,
) -> None:
    """Two routers share the partitions; one is killed in each of four rounds while events come in and are routed."""
    own.ensure_agency("centre")
    configuration.agency("centre", "http://127.0.0.1:9/never")
    configuration.subscription("all", "centre", [ACCEPTED])
    routers: dict[str, Running] = {
        slot: processes.start("router", installation.model_copy(deep=True), slot=slot) for slot in ("a", "b")
    }
    batch = [events.case(f"e{n}", n % KEYS) for n in range(TOTAL)]
    published: list[str] = []

    def publish() -> None:
        for start in range(0, TOTAL, CHUNK):
            events.publish(*batch[start : start + CHUNK])
            published.extend(event.envelope.id for event in batch[start : start + CHUNK])

    publishing = threading.Thread(target=publish)
    publishing.start()
    for number, victim in enumerate(KILLS):
        eventually(lambda number=number: len(published) >= (number + 0.5) / len(KILLS) * TOTAL, 60)  # type: ignore[misc]
        routers[victim].kill()
        assert len(published) < TOTAL, "events come in while it dies"
        routers[victim] = processes.start("router", installation.model_copy(deep=True), slot=victim, wait=False)
    publishing.join(120)
    assert len(published) == TOTAL

    def all_routed() -> bool:
        return len(read_all(kafka, topics.ledger_routed, EVENT_PARTITIONS)) >= len(published)

    eventually(all_routed, 60, "every event on the ledger")
    fed = read_all(kafka, topics.feed("centre"), 1)
    assert Counter(attribute(record, "ce_id") for record in fed) == Counter(published)
    verdicts = Counter(document(r)["verdict"] for r in read_all(kafka, topics.ledger_routed, EVENT_PARTITIONS))
    assert verdicts == Counter({"routed": len(published)})
    order: dict[bytes, list[str]] = defaultdict(list)
    for record in fed:
        order[record.key or b""].append(attribute(record, "ce_id"))
    for got in order.values():
        assert got == sorted(got, key=published.index)
