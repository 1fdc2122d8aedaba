"""The pusher's dealing with its group, on a Kafka in memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import ClassVar

import orjson
import pytest
from prometheus_client import CollectorRegistry

from consumers.pusher.deciding import Feeds
from consumers.pusher.engine import RENEW_S, Pusher
from consumers.pusher.metrics import PusherMetrics
from consumers.pusher.note import Note
from consumers.pusher.office import PushOffice
from consumers.pusher.outbox import Outbox
from consumers.pusher.placing import is_astray
from consumers.pusher.reading import Reading
from consumers.pusher.receivers import Receivers
from schemas.codec import Codec
from schemas.topics import Topics
from services.delivery.cursors import Cursors, UndecidedError, has_left
from services.delivery.profile import Profile
from services.delivery.receiver import Receiver
from services.delivery.retry import RetryPolicy
from services.delivery.sender import Sender
from services.runtime.alerts import Alert, AlertKind
from services.runtime.errors import InvalidError, KafkaUnavailableError, NotFoundError, UnavailableError
from services.runtime.kafka.port import Committed, Partition
from tests.conditions import eventually
from tests.fakes.kafka import FakeAdmin, FakeConsumer, FakeKafka
from tests.fakes.virtual_time import VirtualClock

TOPICS = Topics()
PROFILE = Profile(64, 16, 1.0, 0.5, RetryPolicy(1.0, 60.0), 3, 1e9)
ONE = Partition(TOPICS.feed("one"), 0)


@dataclass
class Known(Receivers):
    """Agencies that a test sets."""

    names: list[str] = field(default_factory=lambda: ["one", "two"])
    elsewhere: list[str] = field(default_factory=list)
    changes: int = 0
    moved: bool = False

    def version(self) -> int:
        """Return the configuration's version."""
        return self.changes

    def agencies(self) -> Collection[str]:
        """Return the agencies that take webhooks."""
        return self.names

    def others(self) -> Collection[str]:
        """Return the agencies that take their feeds by another channel."""
        return self.elsewhere

    def may_have_moved(self, agency: str) -> bool:
        """Tell what a test says."""
        return self.moved

    def get(self, agency: str) -> Receiver:
        """Return a receiver that nothing is sent to."""
        return Receiver(agency, "http://127.0.0.1:9/", (), PROFILE)


@dataclass
class Rig:
    """A pusher at work."""

    kafka: FakeKafka
    clock: VirtualClock
    receivers: Known

    def cursor(self, partition: Partition) -> Committed:
        """Return what the group has committed of one feed."""
        return self.kafka.groups[TOPICS.group("pusher")].committed.get(partition, Committed(0))

    def cursors(self) -> dict[Partition, object]:
        """Return what the group has committed."""
        return dict(self.kafka.groups[TOPICS.group("pusher")].committed)


class Counting(FakeAdmin):
    """An admin client that notes which groups it was asked for."""

    asked: ClassVar[list[str]] = []
    untold: ClassVar[bool] = False
    away: ClassVar[Collection[object]] = ()
    """The groups and feeds whose broker does not answer."""

    def group_offsets(self, group: str, partitions: Collection[Partition] | None = None) -> dict[Partition, Committed]:
        """Note it."""
        self.asked.append(group)
        return super().group_offsets(group, partitions)

    def groups_members(self, groups: Collection[str]) -> dict[str, int]:
        """Fail while the broker can't tell."""
        if self.untold or set(groups) & set(self.away):
            raise UnavailableError("the broker can't tell")
        return super().groups_members(groups)

    def groups_offsets(self, groups: Collection[str]) -> dict[str, dict[Partition, Committed]]:
        """Fail for all where one can't be told of, as the library does."""
        if set(groups) & set(self.away):
            raise UnavailableError("no coordinator")
        return super().groups_offsets(groups)

    def log_ends(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Fail for all where one can't be told of, as the library does."""
        if set(partitions) & set(self.away):
            raise UnavailableError("no leader")
        return super().log_ends(partitions)


class CountingKafka(FakeKafka):
    """A Kafka whose admin clients note what they are asked."""

    def admin(self, *, timeout_s: float = 30.0) -> FakeAdmin:
        """Return one."""
        return Counting(self)


class NoSender(Sender):
    """Sends nothing."""

    def __init__(self) -> None:
        """Open no connections."""


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Run a pusher of two agencies without events."""
    with pushing(CountingKafka(), Known()) as found:
        yield found


@contextmanager
def pushing(kafka: FakeKafka, receivers: Known) -> Iterator[Rig]:
    """Run a pusher."""
    clock = VirtualClock()
    kafka.admin().ensure_topics(spec for agency in receivers.names for spec in TOPICS.agency_specs(agency))
    kafka.admin().ensure_topics(TOPICS.base_specs([]))
    loop, stop = asyncio.new_event_loop(), threading.Event()
    metrics = PusherMetrics(CollectorRegistry())
    outbox = Outbox(loop.call_soon_threadsafe)
    office = PushOffice(Codec.__new__(Codec), NoSender(), outbox, TOPICS, clock, metrics)
    pusher = Pusher(kafka, TOPICS, receivers, office, outbox, clock, metrics, loop, "pusher-0")
    threads = [threading.Thread(target=loop.run_forever), threading.Thread(target=pusher.run, args=(stop,))]
    for thread in threads:
        thread.start()
    yield Rig(kafka, clock, receivers)
    stop.set()
    threads[1].join(10)
    loop.call_soon_threadsafe(loop.stop)
    threads[0].join(10)
    loop.close()


def committed(rig: Rig) -> Callable[[], bool]:
    """Return a condition: both cursors are committed."""
    return lambda: TOPICS.group("pusher") in rig.kafka.groups and len(rig.cursors()) == 2


def test_cursors_are_committed_at_once_and_renewed_before_kafka_forgets_them(rig: Rig) -> None:
    """A feed without events for weeks keeps its cursor."""
    eventually(committed(rig))
    rig.kafka.groups[TOPICS.group("pusher")].committed.clear()
    rig.clock.seconds += RENEW_S + 1
    eventually(committed(rig))


def test_a_feed_that_another_channel_takes_is_given_up_with_a_note(rig: Rig) -> None:
    """Whoever reads the feed next knows from the cursor's note that nothing is under way."""
    eventually(committed(rig))
    rig.receivers.names.remove("one")
    rig.receivers.changes += 1
    eventually(lambda: has_left(rig.kafka.groups[TOPICS.group("pusher")].committed[ONE].note))
    rig.receivers.names.append("one")
    rig.receivers.changes += 1
    eventually(lambda: rig.kafka.groups[TOPICS.group("pusher")].committed[ONE].note == "")


@pytest.mark.parametrize("astray", [False, True])
@pytest.mark.parametrize("away", [[Partition(TOPICS.feed("three"), 0)], [TOPICS.agency_group("three")]])
def test_a_feed_of_which_a_broker_can_not_tell_waits_alone_and_begins_by_itself(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, away: Collection[object], astray: bool
) -> None:
    """Its leader or its group's coordinator is away when it begins together with others: they begin, and go on."""
    eventually(committed(rig))
    rig.receivers.moved = True
    three, four, two = begin(rig, "three", 3), begin(rig, "four", 3), Partition(TOPICS.feed("two"), 0)
    note = Note(rig.clock.now(), "beyond the end", astray=True) if astray else None
    rig.kafka.groups[TOPICS.group("pusher")].committed[three] = Committed(2, note.to_text() if note else "")
    monkeypatch.setattr(Counting, "away", away)
    appear(rig, "three", "four")
    soon(rig, lambda: rig.cursor(four) == Committed(3))
    soon(rig, lambda: '"waits"' in rig.cursor(three).note)
    put(rig, two, 5)
    soon(rig, lambda: rig.cursor(two) == Committed(5))
    assert (ended(rig, "three"), is_astray(rig.cursor(three))) == ([], astray)
    monkeypatch.setattr(Counting, "away", ())
    soon(rig, lambda: '"waits"' not in rig.cursor(three).note)
    soon(rig, lambda: ended(rig, "three") == ([] if astray else [2]))
    assert is_astray(rig.cursor(three)) == astray


@pytest.mark.parametrize("note", ["", '{"held_since": "2026-01-01T00:00:00+00:00", "why": "x", "astray": true}'])
def test_a_feed_that_another_channel_was_given_while_nobody_pushed_is_let_go_of(note: str) -> None:
    """The pusher was away, and there was no line to give up: whoever has the feed now would wait for ever."""
    kafka, receivers = CountingKafka(), Known(elsewhere=["three"])
    three = Partition(TOPICS.feed("three"), 0)
    kafka.admin().ensure_topics(TOPICS.agency_specs("three"))
    kafka.admin().set_group_offsets(TOPICS.group("pusher"), {three: Committed(7, note)})
    with pushing(kafka, receivers) as rig:
        eventually(lambda: has_left(rig.cursor(three).note))
        assert (rig.cursor(three).offset, is_astray(rig.cursor(three))) == (7, bool(note))
        cursors = Cursors(kafka, TOPICS)
        if note:
            with pytest.raises(UndecidedError):
                cursors.handed_over("three")
        else:
            assert cursors.handed_over("three") == 7
        receivers.names.append("three")
        receivers.elsewhere.clear()
        receivers.changes += 1
        eventually(lambda: not has_left(rig.cursor(three).note))


def test_a_new_agency_asks_for_its_own_cursor_alone_and_begins_where_another_channel_ended(rig: Rig) -> None:
    """Hundreds of agencies that once had another channel hold nobody up when one more comes."""
    eventually(committed(rig))
    rig.receivers.moved = True
    three, group = Partition(TOPICS.feed("three"), 0), TOPICS.agency_group("three")
    rig.kafka.admin().ensure_topics(TOPICS.agency_specs("three"))
    for _ in range(9):
        rig.kafka.producer().send(three.topic, key=b"k", value=b"v")
    rig.kafka.admin().set_group_offsets(group, {three: Committed(9)})
    Counting.asked.clear()
    rig.receivers.names.append("three")
    rig.receivers.changes += 1
    eventually(lambda: rig.cursors().get(three) == Committed(9, ""))
    assert Counting.asked == [group]


def told(rig: Rig) -> list[tuple[str, str, Mapping[str, str]]]:
    """Return the alerts about feeds and cursors: whom about, whether open, and the offsets."""
    found = [Alert.from_bytes(record.value) for record in rig.kafka.logs[Partition(TOPICS.alerts, 0)]]
    return [(one.subject, one.state, one.labels) for one in found if one.kind == AlertKind.FEED_GAP]


def soon(rig: Rig, condition: Callable[[], object]) -> None:
    """Wait for it while time passes."""

    def later() -> object:
        rig.clock.seconds += 0.2
        return condition()

    eventually(later, 10)


def put(rig: Rig, partition: Partition, number: int) -> None:
    """Put events on a feed; what is no event ends unsent, parked."""
    for _ in range(number):
        rig.kafka.producer().send(partition.topic, key=b"k", value=b"no event")


def ended(rig: Rig, agency: str) -> list[int]:
    """Return the cursors of an agency's receipts, as they came."""
    logs = [log for partition, log in rig.kafka.logs.items() if partition.topic == TOPICS.receipts]
    receipts = [orjson.loads(record.value or b"") for log in logs for record in log]
    return [receipt["cursor"] for receipt in receipts if receipt["agency"] == agency]


def begin(rig: Rig, agency: str, number: int) -> Partition:
    """Make an agency's feed with so many events; the agency isn't known yet."""
    rig.kafka.admin().ensure_topics(TOPICS.agency_specs(agency))
    partition = Partition(TOPICS.feed(agency), 0)
    put(rig, partition, number)
    return partition


def appear(rig: Rig, *agencies: str) -> None:
    """Let the pusher know of agencies."""
    rig.receivers.names.extend(agencies)
    rig.receivers.changes += 1


def test_a_cursor_beyond_its_feed_holds_that_line_alone_until_somebody_decides(rig: Rig) -> None:
    """It may be the agency's own, or the pusher's; another agency's events go on, and nothing is passed over."""
    eventually(committed(rig))
    rig.receivers.moved = True
    own, pushed = begin(rig, "own", 3), begin(rig, "pushed", 3)
    rig.kafka.admin().set_group_offsets(TOPICS.agency_group("own"), {own: Committed(10**12)})
    rig.kafka.groups[TOPICS.group("pusher")].committed[pushed] = Committed(5)
    appear(rig, "own", "pushed")
    soon(rig, lambda: all(is_astray(rig.cursor(one)) for one in (own, pushed)))
    assert (rig.cursor(own).offset, rig.cursor(pushed).offset) == (0, 5)
    soon(rig, lambda: sorted(told(rig), key=str) == [("own", "open", {}), ("pushed", "open", {})])
    put(rig, pushed, 4)
    put(rig, ONE, 2)
    soon(rig, lambda: rig.cursor(ONE) == Committed(2))
    feeds = Feeds(rig.kafka, TOPICS, rig.clock)
    with pytest.raises(InvalidError):
        feeds.go_on("own", "4")
    with pytest.raises(NotFoundError):
        feeds.go_on("one", "first")
    assert (feeds.go_on("own", "1"), feeds.go_on("pushed", "first")) == (1, 0)
    soon(rig, lambda: (rig.cursor(own), rig.cursor(pushed)) == (Committed(3), Committed(7)))
    assert ended(rig, "own") == [1, 2]
    assert ended(rig, "pushed") == list(range(7))
    soon(rig, lambda: {one for one, state, _ in told(rig) if state == "closed"} == {"own", "pushed"})


def test_feeds_are_read_on_and_delivered_while_a_commit_is_not_answered(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator's delay is nobody's; once it answers, what has ended meanwhile is committed too."""
    eventually(committed(rig))
    begun, answered, commit = threading.Event(), threading.Event(), FakeConsumer.commit

    def slow(self: FakeConsumer, offsets: Mapping[Partition, Committed]) -> None:
        begun.set()
        answered.wait(30)
        commit(self, offsets)

    monkeypatch.setattr(FakeConsumer, "commit", slow)
    two = Partition(TOPICS.feed("two"), 0)
    put(rig, ONE, 1)
    soon(rig, begun.is_set)
    at_s = rig.clock.seconds
    soon(rig, lambda: rig.clock.seconds > at_s + 5)  # what is looked at now and then waits for no commit either
    put(rig, two, 3)
    soon(rig, lambda: ended(rig, "two") == [0, 1, 2])
    assert (rig.cursor(ONE), rig.cursor(two)) == (Committed(0), Committed(0))
    answered.set()
    soon(rig, lambda: (rig.cursor(ONE), rig.cursor(two)) == (Committed(1), Committed(3)))


def test_no_share_is_handed_over_while_a_commit_is_under_way_whatever_fails_beside_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next owner's newer cursor would be written over by it."""
    eventually(committed(rig))
    answered, waiting, told = threading.Event(), threading.Event(), list[str]()
    commit, hand_over, wait, share = FakeConsumer.commit, Pusher._hand_over, Reading.await_commit, FakeConsumer._share
    begun, handing = threading.Event(), threading.Event()

    def slow(self: FakeConsumer, offsets: Mapping[Partition, Committed]) -> None:
        begun.set()
        answered.wait(30)
        told.append("committed")
        commit(self, offsets)

    def flush(self: Outbox) -> None:
        if handing.is_set():
            raise KafkaUnavailableError("no producer")

    def handed_over(self: Pusher, reading: Reading) -> None:
        handing.set()
        hand_over(self, reading)
        handing.clear()

    def waited(self: Reading) -> None:
        waiting.set()
        wait(self)

    def shared(self: FakeConsumer) -> list[Partition]:
        told.append("dealt")
        return share(self)

    monkeypatch.setattr(FakeConsumer, "commit", slow)
    monkeypatch.setattr(Outbox, "flush", flush)
    monkeypatch.setattr(Pusher, "_settle", lambda *_: None)  # as where it fails first
    monkeypatch.setattr(Pusher, "_hand_over", handed_over)
    monkeypatch.setattr(Reading, "await_commit", waited)
    monkeypatch.setattr(FakeConsumer, "_share", shared)
    put(rig, ONE, 1)
    soon(rig, begun.is_set)
    rig.kafka.groups[TOPICS.group("pusher")].generation += 1
    soon(rig, waiting.is_set)
    assert told == []
    answered.set()
    soon(rig, lambda: told[:2] == ["committed", "dealt"])


def test_what_ended_last_is_committed_by_a_pusher_that_gives_its_session_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else all of it would be sent again, at every agency, after each outage of a part."""
    eventually(committed(rig))
    commit, refused, closed = FakeConsumer.commit, threading.Event(), list[Committed]()
    close = FakeConsumer.close

    def refuses(self: FakeConsumer, offsets: Mapping[Partition, Committed]) -> None:
        if ONE in offsets and offsets[ONE].offset == 1 and not refused.is_set():
            raise KafkaUnavailableError("not now")
        commit(self, offsets)

    def gone(self: Reading, timeout_s: float) -> None:
        refused.set()
        raise KafkaUnavailableError("the group is gone")

    def closing(self: FakeConsumer) -> None:
        close(self)
        if self.instance is not None:
            closed.append(rig.cursor(ONE))

    monkeypatch.setattr(FakeConsumer, "commit", refuses)
    monkeypatch.setattr(FakeConsumer, "close", closing)
    put(rig, ONE, 1)
    soon(rig, lambda: ended(rig, "one") == [0])
    monkeypatch.setattr(Reading, "poll_group", gone)
    soon(rig, lambda: closed)
    monkeypatch.undo()
    assert closed[0] == Committed(1)


def test_a_feed_that_waits_for_a_decision_does_so_whatever_channel_it_has_meanwhile(rig: Rig) -> None:
    """Though the log grows past the cursor; and what was decided counts for any of them."""
    eventually(committed(rig))
    rig.receivers.moved = True
    three, group, cursors = begin(rig, "three", 3), TOPICS.agency_group("three"), Cursors(rig.kafka, TOPICS)
    rig.kafka.groups[TOPICS.group("pusher")].committed[three] = Committed(5)
    appear(rig, "three")
    soon(rig, lambda: is_astray(rig.cursor(three)))
    disappear(rig, "three")
    soon(rig, lambda: has_left(rig.cursor(three).note))
    put(rig, three, 5)
    for asked in (cursors.handed_over, cursors.begin_own):
        with pytest.raises(UndecidedError):
            asked("three")
    appear(rig, "three")
    soon(rig, lambda: is_astray(rig.cursor(three)) and not has_left(rig.cursor(three).note))
    disappear(rig, "three")
    soon(rig, lambda: has_left(rig.cursor(three).note))
    Feeds(rig.kafka, TOPICS, rig.clock).go_on("three", "1")
    assert cursors.handed_over("three") == 1
    cursors.move("three", 2)
    appear(rig, "three")
    soon(rig, lambda: rig.cursor(three) == Committed(8))
    assert ended(rig, "three") == list(range(2, 8))
    assert rig.kafka.admin().group_offsets(group)[three].offset == 2
    cursors.close()


def disappear(rig: Rig, agency: str) -> None:
    """Let another channel have an agency's feed."""
    rig.receivers.names.remove(agency)
    rig.receivers.changes += 1


def test_a_feed_made_anew_while_it_is_pushed_is_delivered_from_its_beginning(rig: Rig) -> None:
    """Also when it has more events than the old one had; and whoever sees to it closes the alert."""
    eventually(committed(rig))
    put(rig, ONE, 2)
    soon(rig, lambda: rig.cursor(ONE) == Committed(2))
    rig.kafka.admin().delete_topics([ONE.topic])
    rig.kafka.admin().ensure_topics(TOPICS.agency_specs("one"))
    before = len(ended(rig, "one"))
    put(rig, ONE, 5)
    soon(rig, lambda: rig.cursor(ONE) == Committed(5) and {0, 1, 2, 3, 4} == set(ended(rig, "one")[before:]))
    soon(rig, lambda: [(agency, state) for agency, state, labels in told(rig) if labels] == [("one", "open")])
    feeds = Feeds(rig.kafka, TOPICS, rig.clock)
    assert len(feeds.seen("one", "made good")) == 1
    assert told(rig)[-1][:2] == ("one", "closed")
    assert feeds.seen("one", "made good") == []


def test_what_retention_takes_below_a_cursor_is_told_with_both_offsets(rig: Rig) -> None:
    """When a line begins, and while it runs; what is kept is delivered."""
    eventually(committed(rig))
    three = begin(rig, "three", 6)
    rig.kafka.groups[TOPICS.group("pusher")].committed[three] = Committed(1)
    rig.kafka.firsts[three] = 4
    appear(rig, "three")
    soon(rig, lambda: rig.cursor(three) == Committed(6))
    assert ("three", "open", {"from": "1", "to": "4"}) in told(rig)
    rig.kafka.away = True
    rig.kafka.firsts[three] = 9
    rig.kafka.logs[three].extend(replace(rig.kafka.logs[three][0], offset=offset) for offset in range(6, 11))
    rig.kafka.away = False
    soon(rig, lambda: rig.cursor(three) == Committed(11))
    soon(rig, lambda: ("three", "open", {"from": "6", "to": "9"}) in told(rig))


def test_a_log_that_was_cut_below_a_running_line_holds_it_and_ends_nothing(rig: Rig) -> None:
    """What came there since, and what comes, waits for a decision; the other agency's events go on."""
    eventually(committed(rig))
    put(rig, ONE, 4)
    soon(rig, lambda: rig.cursor(ONE) == Committed(4))
    del rig.kafka.logs[ONE][2:]
    soon(rig, lambda: is_astray(rig.cursor(ONE)))
    two = Partition(TOPICS.feed("two"), 0)
    put(rig, two, 1)
    soon(rig, lambda: rig.cursor(two) == Committed(1))


def test_a_deleted_feed_is_told_and_holds_nobody_up_and_one_that_is_there_again_is_committed(rig: Rig) -> None:
    """Nothing had to be committed for it to be noticed; a broker that had lost sight of it takes its cursor later."""
    eventually(committed(rig))
    put(rig, ONE, 2)
    soon(rig, lambda: rig.cursor(ONE) == Committed(2))
    known, made = rig.kafka.partitions.pop(ONE.topic), rig.kafka.topic_ids.pop(ONE.topic)
    soon(rig, lambda: ("one", "open", {}) in told(rig))
    two = Partition(TOPICS.feed("two"), 0)
    put(rig, two, 1)
    soon(rig, lambda: rig.cursor(two) == Committed(1))
    del rig.kafka.groups[TOPICS.group("pusher")].committed[ONE]
    rig.kafka.partitions[ONE.topic], rig.kafka.topic_ids[ONE.topic] = known, made
    soon(rig, lambda: rig.cursor(ONE) == Committed(2))
    soon(rig, lambda: ("one", "closed", {}) in told(rig))


@pytest.mark.parametrize("taken", [0, 4])
def test_a_feed_waits_until_the_agencys_own_clients_have_left_and_nobody_elses_does(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    """It says for whom; it begins where they ended; a broker that can't tell has not said that they left."""
    eventually(committed(rig))
    rig.receivers.moved = True
    three, two = begin(rig, "three", 6), Partition(TOPICS.feed("two"), 0)
    client = rig.kafka.consumer(TOPICS.agency_group("three"))
    client.subscribe([three.topic], lambda _: None, lambda _: None)
    client.poll(0.0, 1)
    appear(rig, "three")
    soon(rig, lambda: "Kafka 客户端" in rig.cursor(three).note)
    put(rig, two, 1)
    soon(rig, lambda: rig.cursor(two) == Committed(1))
    monkeypatch.setattr(Counting, "untold", True)
    if taken:
        client.commit({three: Committed(taken)})
    client.close()
    for number in range(2, 30):
        put(rig, two, 1)
        soon(rig, lambda number=number: rig.cursor(two) == Committed(number))  # type: ignore[misc]
    assert (ended(rig, "three"), "Kafka 客户端" in rig.cursor(three).note) == ([], True)
    monkeypatch.setattr(Counting, "untold", False)
    soon(rig, lambda: rig.cursor(three) == Committed(6))
    assert ended(rig, "three") == list(range(taken, 6))
