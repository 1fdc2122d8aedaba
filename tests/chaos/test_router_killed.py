"""The router under SIGKILL: every event is routed exactly once, in order per key."""

from __future__ import annotations

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
ROUNDS = 5
PER_ROUND = 1200
KILLS = ((0, "a"), (1, "b"), (2, "a"), (3, "b"))


def test_events_are_routed_exactly_once_whatever_is_killed(
    kafka: Kafka,
    topics: Topics,
    own: OwnTopics,
    events: TestEvents,
    configuration: Configuration,
    installation: Settings,
    processes: Processes,
) -> None:
    """Two routers share the partitions; one is killed in each of four rounds while events come in."""
    own.ensure_agency("centre")
    configuration.agency("centre", "http://127.0.0.1:9/never")
    configuration.subscription("all", "centre", [ACCEPTED])
    routers: dict[str, Running] = {
        slot: processes.start("router", installation.model_copy(deep=True), slot=slot) for slot in ("a", "b")
    }
    published: list[str] = []
    for number in range(ROUNDS):
        batch = [events.case(f"e{number}-{n}", n % KEYS) for n in range(PER_ROUND)]
        half = len(batch) // 2
        events.publish(*batch[:half])
        victim = dict(KILLS).get(number)
        if victim is not None:
            routers[victim].kill()
        events.publish(*batch[half:])
        published += [event.envelope.id for event in batch]
        if victim is not None:
            routers[victim] = processes.start("router", installation.model_copy(deep=True), slot=victim, wait=False)

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
