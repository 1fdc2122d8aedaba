"""What is put on record of an ended delivery, whatever the event's producer has written."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry

from consumers.pusher.line import Delivery, Ended
from consumers.pusher.metrics import PusherMetrics
from consumers.pusher.office import PushOffice
from consumers.pusher.outbox import Outbox
from schemas.codec import Codec
from schemas.topics import Topics
from services.delivery.message import Message
from services.delivery.outcome import Delivered
from services.delivery.sender import Sender
from tests.fakes.kafka import FakeKafka, FakeRecord
from tests.fakes.virtual_time import VirtualClock

TOPICS = Topics()


@pytest.mark.parametrize("published", [None, "", "soon", "2025-12-01T10:00:00", "2025-12-01T10:00:00+08:00"])
def test_a_receipt_is_written_whatever_the_time_of_publication_is(published: str | None) -> None:
    """A direct producer's garbage costs the measured latency, never the line."""
    done: list[bool] = []

    def call(callback: Callable[[], None]) -> None:
        callback()

    outbox = Outbox(call)
    metrics = PusherMetrics(CollectorRegistry())
    office = PushOffice(Codec.__new__(Codec), Sender.__new__(Sender), outbox, TOPICS, VirtualClock(), metrics)
    record = FakeRecord(TOPICS.feed("a"), 0, 7, 0, b"k", b"", [])
    delivery = Delivery(record, message=Message("evt_0", "e", "urn:a", "t", "k", published, b"{}"))
    office.record(Ended("a", delivery, Delivered(204), datetime(2026, 1, 1, tzinfo=UTC)), lambda: done.append(True))
    kafka = FakeKafka()
    kafka.admin().ensure_topics(TOPICS.base_specs([]))
    outbox.attach(kafka.producer())
    outbox.flush()
    assert done == [True]
