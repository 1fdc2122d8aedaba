"""Records on their way to Kafka: whatever a send says, none is lost, and the callback comes once it is on the log."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from consumers.pusher.outbox import RETRY_S, UNREADY_S, Outbox, Outgoing
from consumers.pusher.unwritten import told_before
from schemas.topics import Topics, TopicSpec
from services.runtime.alerts import Alert, AlertKind
from services.runtime.errors import HongyanError, KafkaUnavailableError, RecordTooLargeError
from services.runtime.kafka.port import HeaderList, Partition, Placed, Sent
from tests.fakes.kafka import FakeKafka
from tests.fakes.virtual_time import VirtualClock

TOPICS = Topics()
TOPIC = "parked.market"


class Refusing:
    """A producer that refuses some records, at once or later, before it writes any."""

    def __init__(self, cluster: FakeKafka, refusals: list[HongyanError], at_once: bool) -> None:
        self._producer = cluster.producer()
        self._refusals = refusals
        self._at_once = at_once

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: HeaderList = (),
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> Sent:
        """Refuse, or write."""
        if not self._refusals:
            return self._producer.send(topic, key=key, value=value, headers=headers)
        error = self._refusals.pop()
        if self._at_once:
            raise error
        return Failed(error)

    def ready(self, topic: str) -> bool:
        """Tell that nothing is waited for."""
        return True

    def flush(self, timeout_s: float) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Failed:
    """A record that was not written."""

    def __init__(self, error: HongyanError) -> None:
        self._error = error

    def result(self, timeout_s: float) -> Placed:
        """Raise why."""
        raise self._error

    def then(self, on_done: Callable[[Placed | None, Exception | None], None]) -> None:
        """Say why."""
        on_done(None, self._error)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("error", "written"),
    [(KafkaUnavailableError("no right to write"), b"long"), (RecordTooLargeError("long"), b"short")],
)
def test_a_refused_record_is_kept_until_it_is_written(at_once: bool, error: HongyanError, written: bytes) -> None:
    """One too large gives way to its short form; its event is ended only then."""
    cluster = FakeKafka()
    cluster.admin().ensure_topics([TopicSpec(TOPIC, 1)])
    clock, acknowledged = VirtualClock(), []
    outbox = Outbox(lambda call: call(), clock.monotonic)
    outbox.attach(Refusing(cluster, [error], at_once))
    short = Outgoing(TOPIC, b"k", b"short", [])
    outbox.put(Outgoing(TOPIC, b"k", b"long", [], short), lambda: acknowledged.append(True))
    assert (len(outbox), acknowledged) == (1, [])
    clock.seconds += RETRY_S
    outbox.flush()
    assert (len(outbox), acknowledged) == (0, [True])
    reader = cluster.consumer(None)
    reader.assign([Partition(TOPIC, 0)])
    assert [record.value for found in reader.poll(0, 10).values() for record in found] == [written]


class Broken(Refusing):
    """A producer one of whose topics can't be written to: it refuses later, at once, or its metadata never comes."""

    def __init__(self, cluster: FakeKafka, way: str) -> None:
        super().__init__(cluster, [], at_once=False)
        self._way = way

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: HeaderList = (),
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> Sent:
        """Refuse the broken topic's records."""
        if topic != TOPIC or self._way == "mended":
            return super().send(topic, key=key, value=value, headers=headers)
        assert self._way != "unready", "a send would have waited"
        if self._way == "at once":
            raise KafkaUnavailableError
        return Failed(KafkaUnavailableError("no right to write"))

    def ready(self, topic: str) -> bool:
        """Tell whether a send would wait."""
        return topic != TOPIC or self._way != "unready"


@pytest.mark.parametrize("way", ["later", "at once", "unready"])
def test_a_topic_that_cannot_be_written_to_keeps_no_other_waiting(way: str) -> None:
    """However it fails: flushing ends, the others' records are written, and it is tried again in its own time."""
    cluster, clock, acknowledged = FakeKafka(), VirtualClock(), list[str]()
    cluster.admin().ensure_topics([TopicSpec(TOPIC, 1), TopicSpec("receipts", 1)])
    outbox = Outbox(lambda call: call(), clock.monotonic)
    for name in (TOPIC, "receipts", TOPIC, "receipts"):
        outbox.put(Outgoing(name, b"k", b"v", []), lambda name=name: acknowledged.append(name))  # type: ignore[misc]
    outbox.attach(Broken(cluster, way))
    for _ in range(10):
        outbox.flush()
        clock.seconds += UNREADY_S / 4
        outbox.put(Outgoing("receipts", b"k", b"v", []), lambda: acknowledged.append("receipts"))
    assert (acknowledged, len(outbox)) == (["receipts"] * 12, 2)
    outbox.attach(Broken(cluster, "mended"))
    outbox.flush()
    assert acknowledged[12:] == [TOPIC] * 2


@pytest.mark.parametrize("way", ["later", "at once", "unready"])
def test_trouble_of_a_topic_is_told_once_and_its_end_once(way: str) -> None:
    """However often it is tried, and anew when it comes again; of a topic that is well nobody is told."""
    cluster, clock, told = FakeKafka(), VirtualClock(), list[tuple[str, bool]]()
    cluster.admin().ensure_topics([TopicSpec(TOPIC, 1), TopicSpec("receipts", 1)])
    outbox = Outbox(lambda call: call(), clock.monotonic)
    outbox.watch(lambda topic, why: told.append((topic, bool(why))))
    for _ in range(2):
        told.clear()
        outbox.attach(Broken(cluster, way))
        for _ in range(10):
            for topic in (TOPIC, "receipts"):
                outbox.put(Outgoing(topic, b"k", b"v", []), lambda: None)
            clock.seconds += UNREADY_S / 4
            outbox.flush()
        assert told == [(TOPIC, True)]
        outbox.attach(Broken(cluster, "mended"))
        outbox.flush()
        outbox.put(Outgoing(TOPIC, b"k", b"v", []), lambda: None)
        assert told == [(TOPIC, True), (TOPIC, False)]


def test_trouble_that_a_process_before_has_told_of_ends_with_the_first_record() -> None:
    """It was killed, and nobody else would close its alert; what is closed already is not closed again."""
    cluster, told = FakeKafka(), list[tuple[str, str | None]]()
    cluster.admin().ensure_topics(
        [TOPICS.alerts_spec(), *TOPICS.agency_specs("market"), *TOPICS.agency_specs("health")]
    )
    for agency, states in (("market", ["closed", "open"]), ("health", ["open", "closed"])):
        for state in states:
            labels = {"topic": TOPICS.parked(agency)}
            for kind in (AlertKind.TOPIC_UNWRITABLE, AlertKind.LINE_HELD):
                alert = Alert(kind, agency, "", "", "open" if state == "open" else "closed", labels)
                cluster.producer().send(TOPICS.alerts, key=b"k", value=alert.to_bytes())
    outbox = Outbox(lambda call: call(), VirtualClock().monotonic)
    outbox.watch(lambda topic, why: told.append((topic, why)))
    outbox.recall(told_before(cluster, TOPICS))
    outbox.attach(cluster.producer())
    for agency in ("market", "health"):
        outbox.put(Outgoing(TOPICS.parked(agency), b"k", b"v", []), lambda: None)
    assert told == [(TOPICS.parked("market"), None)]


@pytest.mark.parametrize(("short", "expected"), [(b"short", []), (None, ["long", None])])
def test_a_record_too_large_is_trouble_only_where_nothing_shorter_goes(
    short: bytes | None, expected: list[str | None]
) -> None:
    """Where something does, nobody has anything to mend."""
    cluster, told = FakeKafka(), list[str | None]()
    cluster.admin().ensure_topics([TopicSpec(TOPIC, 1)])
    outbox = Outbox(lambda call: call(), VirtualClock().monotonic)
    outbox.watch(lambda topic, why: told.append(why))
    outbox.attach(Refusing(cluster, [RecordTooLargeError("long")], at_once=False))
    outbox.put(Outgoing(TOPIC, b"k", b"long", [], Outgoing(TOPIC, b"k", short, []) if short else None), lambda: None)
    outbox.flush()
    assert told == expected


def test_a_producer_that_takes_nothing_at_all_is_built_anew() -> None:
    """Then the fault is the producer's, and no topic's: flushing says so, and nothing is lost."""
    outbox = Outbox(lambda call: call(), VirtualClock().monotonic)
    outbox.put(Outgoing(TOPIC, b"k", b"v", []), lambda: None)
    outbox.attach(Broken(FakeKafka(), "at once"))
    with pytest.raises(KafkaUnavailableError):
        outbox.flush()
    assert len(outbox) == 1


def test_what_counts_by_its_order_stands_on_the_log_in_it_though_the_first_had_to_be_sent_again() -> None:
    """An alert that is closed and then, by a repetition, opened would stand for ever. Other keys wait for nothing."""
    cluster, clock, told = FakeKafka(), VirtualClock(), []
    cluster.admin().ensure_topics([TopicSpec(TOPIC, 1)])
    outbox = Outbox(lambda call: call(), clock.monotonic)
    outbox.attach(Refusing(cluster, [KafkaUnavailableError("expired")], at_once=False))
    for key, value in ((b"a", b"open"), (b"a", b"closed"), (b"b", b"open"), (b"a", b"open again")):
        outbox.put(Outgoing(TOPIC, key, value, [], in_order=True), lambda value=value: told.append(value))  # type: ignore[misc]
    assert len(outbox) == 4
    clock.seconds += RETRY_S
    for _ in range(4):
        outbox.flush()
    written = [(record.key, record.value) for record in cluster.logs[Partition(TOPIC, 0)]]
    assert [value for key, value in written if key == b"a"] == [b"open", b"closed", b"open again"]
    assert [value for key, value in written if key == b"b"] == [b"open"]
    assert (sorted(told), len(outbox)) == (sorted(value for _, value in written), 0)


def test_a_callback_that_fails_keeps_no_other_from_being_called() -> None:
    """They stand for events of other agencies, whose cursors would wait for it."""
    cluster, calls, called = FakeKafka(), list[Callable[[], None]](), []
    cluster.admin().ensure_topics([TopicSpec(TOPIC, 1)])
    outbox = Outbox(calls.append)
    outbox.attach(cluster.producer())

    def fails() -> None:
        raise RuntimeError("a mistake")

    outbox.put(Outgoing(TOPIC, b"a", b"1", []), fails)
    outbox.put(Outgoing(TOPIC, b"b", b"2", []), lambda: called.append("b"))
    with pytest.raises(RuntimeError):
        calls.pop()()
    calls.pop()()
    assert (called, calls) == (["b"], [])
