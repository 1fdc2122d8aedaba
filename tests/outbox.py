"""What an approval system does with the outbox, and what comes out of it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from producers.outbox.helper import Cursor, add_event
from schemas.contracts import load_contracts
from schemas.topics import EVENT_PARTITIONS, Topics
from services.runtime.kafka.port import Kafka, Record
from tests.databases import Department
from tests.events import ACCEPTED, attribute, read_all


def accept(cursor: Cursor, event_id: str, number: int, **changes: Any) -> None:
    """Add the event of one synthetic case to a transaction."""
    key = f"SYN-{number:06d}"
    data = {**load_contracts().types[ACCEPTED].sample, "project_no": key, **changes}
    add_event(cursor, ACCEPTED, key, data, event_id=event_id)


def commit(department: Department, *events: tuple[str, int]) -> None:
    """Commit these events (id, number of the case), all in one transaction."""
    connection = department.connect()
    for event_id, number in events:
        accept(connection.cursor(), event_id, number)
    connection.commit()
    connection.close()


def published(kafka: Kafka, topics: Topics) -> list[Record]:
    """Return what stands on the topic of the cases."""
    return read_all(kafka, topics.events("window"), EVENT_PARTITIONS)


def ids(kafka: Kafka, topics: Topics) -> list[str]:
    """Return the ids that stand on the topic."""
    return [attribute(record, "ce_id") for record in published(kafka, topics)]


def by_key(kafka: Kafka, topics: Topics) -> dict[str, list[str]]:
    """Return the ids of each case in the order in which they stand on the topic."""
    found: dict[str, list[str]] = defaultdict(list)
    for record in published(kafka, topics):
        found[(record.key or b"").decode()].append(attribute(record, "ce_id"))
    return found
