"""What is put on record of an ended delivery, whatever the event's producer has written."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import orjson
import pytest
from prometheus_client import CollectorRegistry

from consumers.pusher.line import Delivery, Ended
from consumers.pusher.metrics import PusherMetrics
from consumers.pusher.office import PushOffice
from consumers.pusher.outbox import Outbox
from schemas.codec import Codec
from schemas.topics import Topics
from services.delivery.message import Message
from services.delivery.outcome import Delivered, Refused
from services.delivery.sender import Sender
from tests.fakes.kafka import FakeKafka, FakeRecord
from tests.fakes.virtual_time import VirtualClock

TOPICS = Topics()


@pytest.mark.parametrize("published", [None, "", "soon", "2025-12-01T10:00:00", "2025-12-01T10:00:00+08:00"])
def test_a_receipt_is_written_whatever_the_time_of_publication_is(published: str | None) -> None:
    """A direct producer's garbage costs the measured latency, never the line."""
    done: list[bool] = []
    outbox, office = office_and_outbox()
    record = FakeRecord(TOPICS.feed("a"), 0, 7, 0, b"k", b"", [])
    delivery = Delivery(record, message=Message("evt_0", "e", "urn:a", "t", "k", published, b"{}"))
    office.record(Ended("a", delivery, Delivered(204), datetime(2026, 1, 1, tzinfo=UTC)), lambda: done.append(True))
    written_by(outbox)
    assert done == [True]


@pytest.mark.parametrize(("refused", "told"), [(Refused("已暂停", decided=True), 0), (Refused("undecodable"), 1)])
def test_what_was_stopped_is_parked_with_its_reason_and_alarms_nobody(refused: Refused, told: int) -> None:
    """It was somebody's decision: a receipt and a place from which it can be put back, no alert, no dead letter."""
    outbox, office = office_and_outbox()
    record = FakeRecord(TOPICS.feed("a"), 0, 7, 0, b"k", b"v", [("ce_id", b"e"), ("hongyan-subscriptions", b"s")])
    office.record(Ended("a", Delivery(record), refused, datetime(2026, 1, 1, tzinfo=UTC)), lambda: None)
    written = written_by(outbox)
    (parked,) = written[TOPICS.parked("a")]
    assert parked.headers[:2] == record.headers
    assert dict(parked.headers)["hongyan-refusal"].decode() == refused.reason
    (receipt,) = (orjson.loads(one.value or b"") for one in written[TOPICS.receipts])
    assert (receipt["outcome"], receipt["reason"], receipt["attempts"]) == ("parked", refused.reason, 0)
    assert [len(written[topic]) for topic in (TOPICS.alerts, TOPICS.deadletter("pusher"))] == [told, told]


def office_and_outbox() -> tuple[Outbox, PushOffice]:
    """Return an office that sends nothing, and where it puts what is to be written."""

    def call(callback: Callable[[], None]) -> None:
        callback()

    outbox, metrics = Outbox(call), PusherMetrics(CollectorRegistry())
    return outbox, PushOffice(Codec.__new__(Codec), Sender.__new__(Sender), outbox, TOPICS, VirtualClock(), metrics)


def written_by(outbox: Outbox) -> dict[str, list[FakeRecord]]:
    """Write what waits, and return it by topic."""
    kafka = FakeKafka()
    kafka.admin().ensure_topics([*TOPICS.base_specs([]), *TOPICS.agency_specs("a"), TOPICS.alerts_spec()])
    outbox.attach(kafka.producer())
    outbox.flush()
    named = (TOPICS.receipts, TOPICS.parked("a"), TOPICS.alerts, TOPICS.deadletter("pusher"))
    return {name: [r for p, records in kafka.logs.items() if p.topic == name for r in records] for name in named}
