"""Where an agency's own group begins when its feed is no longer pushed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import orjson
import pytest

from consumers.feeds.asking import Asking
from consumers.feeds.direct import OPENINGS, TELL_AT, DirectReading
from consumers.feeds.lanes import SLOW, THREADS, Lanes
from consumers.feeds.renewing import renew
from schemas.topics import LEFT, Topics
from services.delivery.cursors import BEGUN, Cursors, HandoverError, moved_by_tables
from services.runtime.alerts import Alert, AlertKind
from services.runtime.clock import SystemClock
from services.runtime.errors import HongyanError, UnavailableError
from services.runtime.kafka.port import Committed, Consumer, Partition
from services.subscriptions.control import ControlView
from tests.conditions import eventually
from tests.fakes.hand_clock import HandClock
from tests.fakes.kafka import FakeAdmin, FakeKafka

TOPICS = Topics("t.")
FEED = Partition(TOPICS.feed("a"), 0)
GROUP = TOPICS.agency_group("a")


@pytest.fixture
def kafka() -> FakeKafka:
    """Return a cluster where the pusher has reached cursor 7 of the feed."""
    found = FakeKafka()
    found.admin().ensure_topics([*TOPICS.agency_specs("a"), TOPICS.shares_spec(), TOPICS.alerts_spec()])
    found.admin().set_group_offsets(TOPICS.group("pusher"), {FEED: Committed(7)})
    return found


def pushing(kafka: FakeKafka) -> Consumer:
    """Join the pusher's group."""
    member = kafka.consumer(TOPICS.group("pusher"))
    member.subscribe([TOPICS.control_shares], lambda _: None, lambda _: None)
    member.poll(0, 1)
    return member


def view(channel: str = "kafka", version: int = 1, *, kafka_user: bool = False) -> ControlView:
    """Return a configuration in which the agency has this channel."""
    found = ControlView()
    apply(found, channel, version, kafka_user=kafka_user)
    return found


def apply(found: ControlView, channel: str, version: int, *, agency: str = "a", kafka_user: bool = False) -> None:
    """Give the agency this channel."""
    found.apply(f"agency/{agency}", orjson.dumps({"id": agency, "name": "a", "division": "510000", "sink": "x"}))
    entry = {"agency": agency, "channel": channel, "keys": [], "version": version, "kafka_user": kafka_user}
    found.apply(f"access/{agency}", orjson.dumps(entry))


def reading(kafka: FakeKafka, found: ControlView) -> DirectReading:
    """Return what opens Kafka to agencies."""
    return DirectReading(found, kafka, TOPICS, Cursors(kafka, TOPICS), SystemClock())


def joined(kafka: FakeKafka) -> Consumer:
    """Have a client of the agency's join its group."""
    client = kafka.consumer(GROUP)
    client.subscribe([TOPICS.feed("a")], lambda _: None, lambda _: None)
    client.poll(0, 1)
    return client


def told(kafka: FakeKafka) -> list[str]:
    """Return how the alerts of an open or wrongly closed Kafka stand, one after another."""
    found = [Alert.from_bytes(record.value) for record in kafka.logs[Partition(TOPICS.alerts, 0)]]
    return [one.state for one in found if one.kind == AlertKind.FEED_UNGUARDED]


def test_the_group_begins_where_the_pusher_let_go(kafka: FakeKafka) -> None:
    """Not before: while the pusher holds the feed, it may have events under way."""
    member = pushing(kafka)
    direct = reading(kafka, view())
    direct.settle(20)
    assert kafka.admin().group_offsets(GROUP) == {}
    member.commit({FEED: Committed(9, LEFT)})
    direct.settle(20)
    assert kafka.admin().group_offsets(GROUP) == {FEED: Committed(9)}


def test_a_group_that_is_further_on_stays_there(kafka: FakeKafka) -> None:
    """Cursors only rise."""
    kafka.admin().set_group_offsets(GROUP, {FEED: Committed(12)})
    reading(kafka, view()).settle(20)
    assert kafka.admin().group_offsets(GROUP) == {FEED: Committed(12)}


def test_an_agency_never_pushed_to_begins_at_the_first_event(kafka: FakeKafka) -> None:
    """In a group that says nothing a client begins at the end, as most are set, and leaves out all that lies there."""
    kafka.groups[TOPICS.group("pusher")].committed[FEED] = Committed(0)
    reading(kafka, view()).settle(20)
    assert kafka.admin().group_offsets(GROUP) == {FEED: Committed(0)}
    del kafka.groups[GROUP], kafka.groups[TOPICS.group("pusher")]
    reading(kafka, view()).settle(20)
    assert kafka.admin().group_offsets(GROUP) == {FEED: Committed(0)}


def test_a_client_that_has_gone_back_stays_there_whatever_is_started_anew_or_changed(kafka: FakeKafka) -> None:
    """It reads again what it had: it is in its group, and neither a restart nor another key is a reason to put it out.

    Until its feed has been pushed on meanwhile: then it begins where that ended.
    """
    reading(kafka, view()).settle(20)
    client = joined(kafka)
    client.commit({FEED: Committed(2)})
    reading(kafka, view()).settle(20)
    reading(kafka, view(version=2)).settle(20)
    assert (kafka.admin().group_members(GROUP), kafka.admin().group_offsets(GROUP)) == (1, {FEED: Committed(2)})
    kafka.admin().set_group_offsets(TOPICS.group("pusher"), {FEED: Committed(9, LEFT)})
    reading(kafka, view(version=4)).settle(20)
    assert (kafka.admin().group_members(GROUP), kafka.admin().group_offsets(GROUP)) == (0, {FEED: Committed(9)})


def test_a_client_that_has_gone_back_and_is_stopped_is_not_moved_forward_by_renewing(
    kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is committed again is where its clients left it; so is what they began from, also while they run."""
    cursors = Cursors(kafka, TOPICS)
    reading(kafka, view()).settle(20)
    client = joined(kafka)
    client.commit({FEED: Committed(2)})
    put: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(FakeAdmin, "set_group_offsets", lambda _self, group, _offsets: put.append(group))
        renew(cursors, view())
    assert TOPICS.group(BEGUN) in put
    client.close()
    renew(cursors, view())
    assert kafka.admin().group_offsets(GROUP) == {FEED: Committed(2)}


def test_an_agency_of_another_channel_is_left_alone(kafka: FakeKafka) -> None:
    """A puller's cursor moves by its receipts."""
    reading(kafka, view("pull")).settle(20)
    assert kafka.admin().group_offsets(GROUP) == {}


def test_what_the_tables_have_come_to_is_known_as_theirs_and_another_channels_cursor_is_not(kafka: FakeKafka) -> None:
    """Renewing keeps the greater cursor, as before: Kafka forgets the pusher's, and its events would come again."""
    cursors = Cursors(kafka, TOPICS)

    def own() -> tuple[int, bool]:
        held = kafka.admin().group_offsets(GROUP)[FEED]
        return held.offset, moved_by_tables(held.note)

    cursors.move("a", 8, by_tables=True)
    renew(cursors, view("table"))
    assert own() == (8, True)
    cursors.move("a", 5, by_tables=True)  # a restored database is behind where the tables have been
    assert own() == (8, True)
    kafka.admin().set_group_offsets(TOPICS.group("pusher"), {FEED: Committed(11, LEFT)})
    renew(cursors, view("pull"))
    assert own() == (11, False)
    cursors.move("a", 9, by_tables=True)  # a batch that ends late: what lies between is not in the tables
    assert own() == (11, False)


def test_while_a_pusher_holds_the_feed_the_others_are_told_to_wait(kafka: FakeKafka) -> None:
    """A pusher that is gone altogether holds nothing."""
    cursors = Cursors(kafka, TOPICS)
    member = pushing(kafka)
    with pytest.raises(HandoverError):
        cursors.handed_over("a")
    member.close()
    assert cursors.handed_over("a") == cursors.get("a") == 7


@pytest.mark.parametrize("channel", ["pull", "kafka", "table"])
def test_a_cursor_that_nobody_moves_is_committed_again(kafka: FakeKafka, channel: str) -> None:
    """Kafka forgets those of a group without members after a week; the greatest that any channel reached is kept."""
    cursors = Cursors(kafka, TOPICS)
    renew(cursors, view(channel))
    assert kafka.admin().group_offsets(GROUP) == {FEED: Committed(7)}
    cursors.move("a", 9)
    cursors.move("a", 8)  # another process was further on
    del kafka.groups[TOPICS.group("pusher")]
    renew(cursors, view(channel))
    assert kafka.admin().group_offsets(GROUP) == {FEED: Committed(9)}


def test_the_cursor_of_a_webhook_is_the_pushers(kafka: FakeKafka) -> None:
    """Renewed there; and an agency's own client that is connected commits for itself."""
    renew(Cursors(kafka, TOPICS), view("webhook"))
    assert kafka.admin().group_offsets(GROUP) == {}
    joined(kafka)
    renew(Cursors(kafka, TOPICS), view("kafka"))
    assert kafka.admin().group_offsets(GROUP) == {}


def test_a_client_that_was_in_the_group_before_is_put_out_and_begins_at_the_cursor(kafka: FakeKafka) -> None:
    """It would go on from wherever it stood, or keep the cursor from being set."""
    joined(kafka)
    reading(kafka, view()).settle(20)
    assert (kafka.admin().group_members(GROUP), kafka.admin().group_offsets(GROUP)) == (0, {FEED: Committed(7)})
    assert told(kafka) == ["open"], "without an authoriser no right is given: who reads is not guarded"


@contextmanager
def authoriser(refusing: HongyanError | None = None) -> Iterator[list[str]]:
    """Have the broker go by rights: what it is asked for is noted, and may be refused."""
    asked: list[str] = []

    def noting(what: str) -> Callable[..., None]:
        def asks(*_: object) -> None:
            asked.append(what)
            if refusing is not None:
                raise refusing

        return asks

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(FakeAdmin, "allow_reading", noting("allow"))
        patched.setattr(FakeAdmin, "forbid_reading", noting("forbid"))
        yield asked


@pytest.mark.parametrize(("channel", "asks"), [("kafka", "allow"), ("pull", "forbid")])
def test_what_the_broker_refuses_is_told_once_and_asked_for_again(kafka: FakeKafka, channel: str, asks: str) -> None:
    """A right not given as one not taken away: with rests that grow, until it is done; then it is over."""
    clock, found = HandClock(), view(channel, kafka_user=True)
    direct = DirectReading(found, kafka, TOPICS, Cursors(kafka, TOPICS), clock)
    with authoriser(HongyanError("ClusterAuthorizationFailedError")) as asked:
        for _ in range(20):
            direct.settle(20)
        assert (asked, told(kafka)) == ([asks], ["open"])
        for _ in range(600):
            clock.seconds += 0.5
            direct.settle(20)
        assert 5 < len(asked) < 30
        assert told(kafka) == ["open"]
    clock.seconds += 60
    with authoriser() as asked:
        for _ in range(3):
            direct.settle(20)
    assert (asked, told(kafka)) == ([asks], ["open", "closed"])


def test_what_is_decided_otherwise_does_not_wait_for_what_was_refused(kafka: FakeKafka) -> None:
    """A suspension is asked for at once, however long the grant before it has its rest."""
    found = view()
    direct = DirectReading(found, kafka, TOPICS, Cursors(kafka, TOPICS), HandClock())
    with authoriser(HongyanError("refused")) as asked:
        direct.settle()
        apply(found, "pull", 2, kafka_user=True)
        direct.settle()
        assert asked == ["allow", "forbid"]


def test_a_broker_without_an_authoriser_is_told_of_while_it_matters_and_asked_no_more(kafka: FakeKafka) -> None:
    """There is nothing to ask for again; with the channel it is over, since there is no user who could read."""
    found = view()
    direct = reading(kafka, found)
    for _ in range(3):
        direct.settle()
    assert told(kafka) == ["open"]
    apply(found, "pull", 2)
    for _ in range(3):
        direct.settle()
    assert told(kafka) == ["open", "closed"]


def test_clients_that_stay_in_the_group_are_told_of_once_and_tried_again(
    kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an authoriser they may come back at once; the feed is not opened before the cursor is set."""
    client = joined(kafka)
    direct = reading(kafka, view())
    with monkeypatch.context() as patched:
        patched.setattr(FakeAdmin, "evict_members", lambda *_: None)
        for _ in range(TELL_AT * 2):
            direct.settle()
    assert (told(kafka), kafka.admin().group_offsets(GROUP)) == (["open"], {})
    client.close()
    with authoriser():
        direct.settle()
    assert (told(kafka), kafka.admin().group_offsets(GROUP)) == (["open", "closed"], {FEED: Committed(7)})


class SlowForSome(FakeKafka):
    """A cluster in which the coordinator of some agencies' groups does not answer."""

    def __init__(self, *slow: str) -> None:
        super().__init__()
        self.slow = {TOPICS.agency_group(agency) for agency in slow}
        self.answers, self.asked = threading.Event(), 0

    def admin(self, *, timeout_s: float = 30.0) -> FakeAdmin:
        """Return a client that waits when it asks of such a group."""
        cluster = self

        def wait(group: str) -> None:
            if group in cluster.slow:
                cluster.asked += 1
                cluster.answers.wait(20)

        class Waiting(FakeAdmin):
            def group_offsets(
                self, group: str, partitions: Collection[Partition] | None = None
            ) -> dict[Partition, Committed]:
                wait(group)
                return super().group_offsets(group, partitions)

            def evict_members(self, group: str) -> None:
                wait(group)
                super().evict_members(group)

        return Waiting(self)


MANY = [f"slow-{n}" for n in range(SLOW + 1)]


def test_agencies_of_a_slow_broker_take_no_thread_that_another_needs_and_are_told_to_come_again() -> None:
    """Who asks waits a bounded time for an answer, and has one question under way, however often it asks."""
    kafka = SlowForSome(*MANY)
    for agency in (*MANY, "b"):
        kafka.admin().ensure_topics(TOPICS.agency_specs(agency))
    asking = Asking(Cursors(kafka, TOPICS), ask_s=0.2)

    async def body() -> None:
        for _ in range(2):
            slow = await asyncio.gather(*(asking.get(agency) for agency in MANY), return_exceptions=True)
            assert {type(one) for one in slow} == {UnavailableError}
            for cursor in range(1, 10):
                await asking.move("b", cursor)
        assert kafka.asked == len(MANY), "each has one question under way"
        kafka.answers.set()

    try:
        asyncio.run(body())
    finally:
        kafka.answers.set()
        asking.close()


def test_who_was_slow_shares_a_few_threads() -> None:
    """So that however many they are, and however often they ask, most threads are there for the others."""
    lanes, held = Lanes("test", slow_s=0.0), threading.Event()
    try:
        for agency in MANY:
            lanes.begin(agency, lambda: None).result(5)
        begun = [lanes.begin(agency, lambda: held.wait(20)) for agency in MANY[:-1]]
        with pytest.raises(UnavailableError):
            lanes.begin(MANY[-1], lambda: None)
        assert lanes.begin("another", lambda: 3).result(5) == 3
        held.set()
        assert all(one.result(5) for one in begun)
        lanes.begin(MANY[-1], lambda: None).result(5)
    finally:
        held.set()
        lanes.close()


@pytest.mark.parametrize("channel", ["kafka", "pull"])
def test_a_suspension_waits_for_no_agency_of_a_slow_broker(channel: str) -> None:
    """Whether those are being let in or shut out; nor does the look itself, and each of them is asked once."""
    kafka, found = SlowForSome(*MANY), view()
    kafka.admin().ensure_topics([*TOPICS.agency_specs("a"), TOPICS.shares_spec(), TOPICS.alerts_spec()])
    direct = reading(kafka, found)
    with authoriser() as asked:
        direct.settle(20)
        assert asked == ["allow"]
        for agency in MANY:
            apply(found, channel, 1, agency=agency, kafka_user=True)
        direct.settle(0.1)
        before = asked.count("forbid")
        client = joined(kafka)
        apply(found, "pull", 2, kafka_user=True)
        direct.settle(0.1)
        eventually(lambda: asked.count("forbid") == before + 1, 5, "its rights are taken away")
        eventually(lambda: told(kafka) == ["closed", "closed"], 5, "it is settled")
        assert (kafka.admin().group_members(GROUP), kafka.asked) == (0, len(MANY))
        client.close()
        kafka.answers.set()
        eventually(lambda: len(told(kafka)) == 2 + len(MANY), 10, "the others are seen to as well")
    direct.close()


def test_what_is_to_be_closed_goes_first() -> None:
    """And what is to be opened leaves threads for it."""
    slow = SlowForSome(*(f"s-{n}" for n in range(OPENINGS + 1)))
    slow.admin().ensure_topics([*TOPICS.agency_specs("a"), TOPICS.shares_spec(), TOPICS.alerts_spec()])
    found = ControlView()
    for n in range(OPENINGS + 1):
        apply(found, "kafka", 1, agency=f"s-{n}")
    apply(found, "pull", 1, kafka_user=True)
    direct = reading(slow, found)
    with authoriser() as asked:
        direct.settle(0.1)
        eventually(lambda: asked == ["forbid"], 5, "the last of them is closed")
        eventually(lambda: slow.asked >= OPENINGS - 1, 5, "so many are being opened")
        direct.settle(0.1)
        assert slow.asked <= OPENINGS
        slow.answers.set()
        direct.close()


def test_a_slow_broker_of_one_agencys_group_keeps_nobody_else_waiting() -> None:
    """However often that agency asks, it waits on one thread and with one client; others ask and move as ever."""
    kafka = SlowForSome("a")
    kafka.admin().ensure_topics([*TOPICS.agency_specs("a"), *TOPICS.agency_specs("b"), TOPICS.shares_spec()])
    asking = Asking(Cursors(kafka, TOPICS))

    async def body() -> None:
        slow = [asyncio.create_task(asking.get("a")) for _ in range(THREADS * 3)]
        for cursor in range(1, 20):
            await asyncio.wait_for(asking.move("b", cursor), 5)
            assert await asyncio.wait_for(asking.handed_over("b"), 5) == cursor
        assert (kafka.asked, any(one.done() for one in slow)) == (1, False)
        kafka.answers.set()
        assert await asyncio.gather(*slow) == [0] * len(slow)

    try:
        asyncio.run(body())
    finally:
        kafka.answers.set()
        asking.close()
