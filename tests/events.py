"""Publishes real events in tests, and reads logs back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from producers.publishing import Prepared, Publishing
from schemas.contracts import load_contracts
from schemas.registry_client import RegistryClient
from schemas.topics import Topics
from services.runtime.clock import SystemClock
from services.runtime.kafka.port import Kafka, Partition, Placed, Record
from services.runtime.settings import Settings
from tests.conditions import eventually

ISSUED = "cn.gov.sc.health.medical-ad-certificate.issued"
CORRECTED = "cn.gov.sc.health.medical-ad-certificate.corrected"
REVOKED = "cn.gov.sc.health.medical-ad-certificate.revoked"
ARREARS = "cn.gov.sc.insurance.arrears.noticed"
ACCEPTED = "cn.gov.sc.window.case.accepted"
COMPLETED = "cn.gov.sc.window.case.completed"
SOURCE = "urn:test:department"


class TestEvents:
    """A department's events, by the product's own way in."""

    __test__ = False

    def __init__(self, kafka: Kafka, topics: Topics, settings: Settings) -> None:
        self.kafka = kafka
        self.topics = topics
        registry = RegistryClient(settings.registry.url)
        self.publishing = Publishing(
            load_contracts(), registry, settings.registry.url, topics, settings.gateway, SystemClock()
        )
        self._producer = kafka.producer()

    def close(self) -> None:
        """Close the producer, which would look for its broker for ever."""
        self._producer.close()

    def prepare(
        self, kind: str, event_id: str, source: str = SOURCE, follows: str = "", time: str = "", **changes: Any
    ) -> Prepared:
        """Return an event made of the type's sample and some changes."""
        data = {**load_contracts().types[kind].sample, **changes}
        attributes = {"type": kind, "id": event_id, "source": source, "follows": follows, "time": time}
        return self.publishing.prepare({name: text for name, text in attributes.items() if text}, data)

    def certificate(self, event_id: str, number: int, kind: str = ISSUED, **changes: Any) -> Prepared:
        """Return an event of one certificate."""
        return self.prepare(kind, event_id, certificate_no=f"（川）医广〔2025〕第{number:07d}号", **changes)

    def case(self, event_id: str, number: int, kind: str = ACCEPTED, **changes: Any) -> Prepared:
        """Return an event of one case."""
        return self.prepare(kind, event_id, project_no=f"SYN-{number:06d}", **changes)

    def publish(self, *events: Prepared, clock: datetime | None = None) -> list[Placed]:
        """Put events on their topics, in order, by a publisher whose clock shows this."""
        stamp = None if clock is None else int(clock.timestamp() * 1000)
        sent = [
            self._producer.send(e.topic, key=e.key, value=e.value, headers=e.headers, timestamp_ms=stamp)
            for e in events
        ]
        return [one.result(60) for one in sent]

    def publish_raw(
        self, topic: str, value: bytes | None, key: bytes = b"k", headers: Mapping[str, str] | None = None
    ) -> Placed:
        """Put any record on a topic."""
        listed = [(name, text.encode()) for name, text in (headers or {}).items()]
        return self._producer.send(topic, key=key, value=value, headers=listed).result(15)

    def feed(self, agency: str, *events: Prepared, grants: str = "s", reason: str = "") -> list[Placed]:
        """Put events into a feed, as the router would; without grants they are follow-ups."""
        why = reason or ("match" if grants else "follow-up")
        ours = [("hongyan-subscriptions", grants.encode()), ("hongyan-reason", why.encode())]
        topic = self.topics.feed(agency)
        sent = [
            self._producer.send(topic, key=e.key, value=e.value, headers=[*e.headers, *ours], partition=0)
            for e in events
        ]
        return [one.result(60) for one in sent]


def read_all(kafka: Kafka, topic: str, partitions: int) -> list[Record]:
    """Return everything that a read-committed reader sees on a topic now."""
    reader = kafka.consumer(None)
    places = [Partition(topic, n) for n in range(partitions)]
    reader.assign(places)
    ends = reader.end_offsets(places)
    records: list[Record] = []

    def at_end() -> bool:
        records.extend(r for found in reader.poll(0.2, 5000).values() for r in found)
        return all(reader.position(place) >= ends[place] for place in places)

    eventually(at_end, 20, f"the end of {topic}")
    reader.close()
    return records


def attribute(record: Record, name: str) -> str:
    """Return a header's text."""
    return dict(record.headers).get(name, b"").decode()


def document(record: Record) -> dict[str, Any]:
    """Return a record's JSON value."""
    found: dict[str, Any] = orjson.loads(record.value or b"{}")
    return found
