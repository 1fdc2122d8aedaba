"""What is put on record of an ended delivery, whatever the event's producer has written."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import orjson
import pytest
from cryptography.fernet import Fernet
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from consumers.pusher.line import Delivery, Ended, Unready
from consumers.pusher.metrics import PusherMetrics
from consumers.pusher.office import PushOffice
from consumers.pusher.outbox import Outbox
from consumers.pusher.receivers import Receivers
from schemas.codec import Codec
from schemas.contracts import Schema
from schemas.receipts import Receipt
from schemas.topics import PROBE_AGENCY, Topics
from services.delivery.message import Message, Post
from services.delivery.outcome import Delivered, Outcome, Refused
from services.delivery.receiver import Receiver
from services.delivery.sender import Sender
from services.runtime.alerts import Alert, AlertKind
from services.runtime.settings import DeliverySettings, SecuritySettings
from services.subscriptions.follower import ControlFollower
from services.subscriptions.sealing import Sealer
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
    named = [("ce_id", b"e"), ("ce_subject", "键".encode()), ("hongyan-subscriptions", b"s")]
    record = FakeRecord(TOPICS.feed("a"), 0, 7, 0, b"k", b"v", named)
    office.record(Ended("a", Delivery(record), refused, datetime(2026, 1, 1, tzinfo=UTC)), lambda: None)
    written = written_by(outbox)
    (parked,) = written[TOPICS.parked("a")]
    assert parked.headers[:3] == record.headers
    assert dict(parked.headers)["hongyan-refusal"].decode() == refused.reason
    (receipt,) = (orjson.loads(one.value or b"") for one in written[TOPICS.receipts])
    assert (receipt["outcome"], receipt["reason"], receipt["attempts"]) == ("parked", refused.reason, 0)
    assert (receipt["event_id"], receipt["subject"]) == ("e", "键")
    assert [len(written[topic]) for topic in (TOPICS.alerts, TOPICS.deadletter("pusher"))] == [told, told]


def test_a_receivers_words_go_on_record_and_to_nobody_who_is_alarmed(capsys: pytest.CaptureFixture[str]) -> None:
    """It may say again whose certificate it was: beside the event and its receipt, in no alert, mail or log."""
    outbox, office = office_and_outbox()
    record = FakeRecord(TOPICS.feed("a"), 0, 7, 0, b"k", b"v", [("ce_id", b"e")])
    refused = Refused("HTTP 422", 422, words="联系人 张某 不符")
    office.record(Ended("a", Delivery(record), refused, datetime(2026, 1, 1, tzinfo=UTC)), lambda: None)
    written = written_by(outbox)
    (parked,), (receipt,), (alert,) = (written[topic] for topic in (TOPICS.parked("a"), TOPICS.receipts, TOPICS.alerts))
    named = {name: value.decode() for name, value in parked.headers}
    assert (named["hongyan-refusal"], named["hongyan-words"]) == (refused.reason, refused.words)
    told = Receipt.from_json(orjson.loads(receipt.value or b""))
    assert (told.reason, told.words) == (refused.reason, refused.words)
    logged = capsys.readouterr()
    assert "张某" not in (alert.value or b"").decode() + logged.out + logged.err


@pytest.mark.parametrize(
    ("topic", "subject"), [(TOPICS.parked("a"), "a"), (TOPICS.receipts, TOPICS.receipts), (TOPICS.alerts, None)]
)
def test_a_topic_that_cannot_be_written_to_is_told_until_it_can(topic: str, subject: str | None) -> None:
    """By an alert with the reason, about whose events wait; the alerts' own topic can't be told of by itself."""
    outbox, office = office_and_outbox()
    office.unwritten(topic, "no right")
    office.unwritten(topic, None)
    assert len(outbox) == (2 if subject else 0)
    found = [Alert.from_bytes(record.value) for record in written_by(outbox)[TOPICS.alerts]]
    assert [(one.kind, one.subject, one.state) for one in found] == [
        (AlertKind.TOPIC_UNWRITABLE, subject, state) for state in ("open", "closed") if subject
    ]
    assert all(topic in one.detail for one in found)
    assert len({one.key for one in found}) <= 1


def test_the_probe_leaves_no_receipt_and_no_alert() -> None:
    """It ends, and that is all: statistics and ledger would hold little else."""
    done: list[bool] = []
    outbox, office = office_and_outbox()
    delivery = Delivery(FakeRecord(TOPICS.feed(PROBE_AGENCY), 0, 7, 0, b"k", b"", []))

    async def record() -> None:
        ended = Ended(PROBE_AGENCY, delivery, Delivered(204), datetime(2026, 1, 1, tzinfo=UTC))
        office.record(ended, lambda: done.append(True))
        await asyncio.sleep(0)

    asyncio.run(record())
    office.held(PROBE_AGENCY, "no monitor")
    assert (done, len(outbox)) == ([True], 0)


def test_only_the_probe_goes_by_the_sender_without_an_allow_list() -> None:
    """And only to where the setting says, whatever stands in the control topic."""
    noted: list[tuple[str, str]] = []

    class Noting(Sender):
        def __init__(self, name: str) -> None:
            self.name = name

        async def send(self, receiver: Receiver, post: Post, now: datetime) -> Outcome:
            noted.append((self.name, receiver.sink))
            return Delivered(204)

    def call(callback: Callable[[], None]) -> None:
        callback()

    office = PushOffice(
        Codec.__new__(Codec),
        Noting("checked"),
        Outbox(call),
        TOPICS,
        VirtualClock(),
        PusherMetrics(CollectorRegistry()),
        Noting("probe"),
    )
    follower, settings = ControlFollower(FakeKafka(), [TOPICS.control_subscriptions], "t"), SecuritySettings()
    settings.master_key = SecretStr(Fernet.generate_key().decode())
    for agency in ("a", PROBE_AGENCY):
        entry = {"id": agency, "name": agency, "division": "", "sink": "http://127.0.0.1:1/record", "keys": []}
        follower.view.apply(f"agency/{agency}", orjson.dumps(entry))
    receivers = Receivers(follower, Sealer(settings), DeliverySettings(), "http://127.0.0.1:2/v1/probe")
    message = Message("evt_0", "e", "urn:a", "t", "k", None, b"{}")
    record = FakeRecord(TOPICS.feed("a"), 0, 7, 0, b"k", b"", [])
    for agency in ("a", PROBE_AGENCY):
        receiver = receivers.get(agency)
        assert receiver is not None
        asyncio.run(office.send(receiver, [Delivery(record, message=message)]))
    assert noted == [("checked", "http://127.0.0.1:1/record"), ("probe", "http://127.0.0.1:2/v1/probe")]


class Hanging:
    """A registry that accepts and says nothing until it is let."""

    def __init__(self) -> None:
        self.free = threading.Event()

    def schema_by_id(self, schema_id: int) -> Schema:
        """Hang."""
        assert self.free.wait(20)
        return {"type": "record", "name": "r", "fields": [{"name": "n", "type": "int"}]}

    def id_of(self, subject: str, schema: Schema) -> int:
        """Never asked."""
        raise NotImplementedError


def test_a_registry_that_hangs_blocks_no_line_and_is_told_apart_from_the_receiver() -> None:
    """Building says at once that it waits for the schema, and when it needs to wait no more."""
    registry = Hanging()
    outbox, office = office_and_outbox(Codec(registry))
    value = b"\x00\x00\x00\x00\x07\x02"
    delivery = Delivery(FakeRecord(TOPICS.feed("a"), 0, 7, 0, b"k", value, [("ce_id", b"e")]))

    async def body() -> None:
        began = time.monotonic()
        waits = [office.build(delivery, "json") for _ in range(20)]
        assert time.monotonic() - began < 1
        assert not any(isinstance(one, Unready) and one.until.done() for one in waits)
        registry.free.set()
        for one in waits:
            assert isinstance(one, Unready)
            await asyncio.wait_for(one.until, 10)
        built = office.build(delivery, "json")
        assert isinstance(built, Message)
        assert orjson.loads(built.body)["data"] == {"n": 1}

    asyncio.run(body())
    assert len(outbox) == 0


def test_an_alert_waits_until_the_one_before_it_of_its_kind_and_subject_is_on_the_log() -> None:
    """Its state is what stands last."""
    outbox, office = office_and_outbox()
    producer = FakeKafka().transactional_producer("t")  # whose records are under way until it commits
    producer._cluster.admin().ensure_topics([TOPICS.alerts_spec()])
    producer.begin()
    outbox.attach(producer)
    for kind, closed in ((AlertKind.LINE_HELD, False), (AlertKind.LINE_HELD, True), (AlertKind.AGENCY_GONE, False)):
        office.alert(kind, "a", "why", closed=closed)
    assert len(outbox) == 1
    producer.commit()
    producer.begin()
    outbox.flush()
    producer.commit()
    (log,) = [records for partition, records in producer._cluster.logs.items() if partition.topic == TOPICS.alerts]
    found = [(one.kind, one.state) for one in (Alert.from_bytes(record.value) for record in log)]
    assert found == [("line-held", "open"), ("agency-gone", "open"), ("line-held", "closed")]


def office_and_outbox(codec: Codec | None = None) -> tuple[Outbox, PushOffice]:
    """Return an office that sends nothing, and where it puts what is to be written."""

    def call(callback: Callable[[], None]) -> None:
        callback()

    outbox, metrics = Outbox(call), PusherMetrics(CollectorRegistry())
    return outbox, PushOffice(
        codec or Codec.__new__(Codec), Sender.__new__(Sender), outbox, TOPICS, VirtualClock(), metrics
    )


def written_by(outbox: Outbox) -> dict[str, list[FakeRecord]]:
    """Write what waits, and return it by topic."""
    kafka = FakeKafka()
    kafka.admin().ensure_topics([*TOPICS.base_specs([]), *TOPICS.agency_specs("a"), TOPICS.alerts_spec()])
    outbox.attach(kafka.producer())
    while outbox:
        outbox.flush()
    named = (TOPICS.receipts, TOPICS.parked("a"), TOPICS.alerts, TOPICS.deadletter("pusher"))
    return {name: [r for p, records in kafka.logs.items() if p.topic == name for r in records] for name in named}
