"""The Kafka port's contract, clause by clause, on the fake and on the real broker."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from schemas.topics import TopicSpec
from services.runtime.errors import (
    ConflictError,
    OffTheLogError,
    ProducerLostError,
    RecordTooLargeError,
    TransactionFailedError,
    UnavailableError,
    UnknownTopicError,
)
from services.runtime.kafka.client import connect
from services.runtime.kafka.partitioning import partition_of
from services.runtime.kafka.port import Admin, Committed, Consumer, Kafka, Partition, Record
from services.runtime.settings import KafkaSettings
from tests.conditions import eventually
from tests.fakes.kafka import FakeKafka

LIMIT_POLLS = 100


@dataclass
class Cluster:
    """A cluster under test with two topics of its own."""

    kafka: Kafka
    source: str
    target: str
    name: str

    def group(self) -> str:
        """Return the name of a group that nobody else uses."""
        return f"{self.name}-{secrets.token_hex(3)}"

    def write(self, *values: str, partition: int = 0) -> None:
        """Put values on the source topic."""
        producer = self.kafka.producer()
        for value in values:
            producer.send(self.source, key=b"k", value=value.encode(), partition=partition).result(10)
        producer.close()

    def read_target(self) -> list[str]:
        """Return every value that a read-committed reader sees on the target topic."""
        reader = self.kafka.consumer(None)
        reader.assign([Partition(self.target, 0)])
        end = reader.end_offsets([Partition(self.target, 0)])[Partition(self.target, 0)]
        values: list[str] = []
        for _ in range(LIMIT_POLLS):
            if reader.position(Partition(self.target, 0)) >= end:
                break
            values += [text(r) for records in reader.poll(0.2, 100).values() for r in records]
        reader.close()
        return values


@dataclass
class Member:
    """A group member that notes its rebalances."""

    consumer: Consumer
    assigned: list[set[Partition]] = field(default_factory=list)
    revoked: list[set[Partition]] = field(default_factory=list)

    def join(self, *topics: str) -> Member:
        """Subscribe."""
        self.consumer.subscribe(
            topics, lambda ps: self.assigned.append(set(ps)), lambda ps: self.revoked.append(set(ps))
        )
        return self

    def read(self, count: int) -> list[Record]:
        """Poll until so many records have come."""
        records: list[Record] = []
        poll_until(lambda: take_up(records, self.consumer) >= count)
        return records


def take_up(records: list[Record], consumer: Consumer) -> int:
    """Add what one poll gives, and return how many there are."""
    records += polled(consumer)
    return len(records)


def text(record: Record) -> str:
    """Return a record's value."""
    return (record.value or b"").decode()


def polled(consumer: Consumer) -> list[Record]:
    """Poll once."""
    return [record for records in consumer.poll(0.2, 100).values() for record in records]


def poll_until(condition: Callable[[], bool]) -> None:
    """Call until true, with a limit."""
    for _ in range(LIMIT_POLLS):
        if condition():
            return
    pytest.fail("the condition did not come true")


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.servers)])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Run a test on the fake and on the real broker."""
    if request.param == "fake":
        kafka: Kafka = FakeKafka()
    else:
        kafka = connect(KafkaSettings(bootstrap_servers=request.getfixturevalue("kafka_address")))
    name = f"port-{secrets.token_hex(4)}"
    admin = kafka.admin()
    found = Cluster(kafka, f"{name}.source", f"{name}.target", name)
    admin.ensure_topics([TopicSpec(found.source, 2), TopicSpec(found.target, 1)])
    yield found
    admin.delete_topics([found.source, found.target])
    admin.close()


def test_records_of_a_partition_come_in_offset_order(cluster: Cluster) -> None:
    """Order: one partition's records come once each, in offset order, with key and headers as they were sent."""
    producer = cluster.kafka.producer()
    for n in range(20):
        producer.send(
            cluster.source, key=b"k", value=str(n).encode(), headers=[("h", b"1")], partition=0, timestamp_ms=1000 + n
        )
    producer.flush(10)
    records = Member(cluster.kafka.consumer(cluster.group())).join(cluster.source).read(20)
    assert [(r.offset, text(r), r.timestamp) for r in records] == [(n, str(n), 1000 + n) for n in range(20)]
    assert records[0].key == b"k"
    assert list(records[0].headers) == [("h", b"1")]


def test_a_record_that_names_no_partition_goes_to_its_keys(cluster: Cluster) -> None:
    """The same for every adapter: whoever looks for a key reads one partition."""
    producer = cluster.kafka.producer()
    for key in (b"market-sc", "机构".encode(), b""):
        placed = producer.send(cluster.source, key=key, value=b"v").result(10)
        assert placed.partition == partition_of(key, 2)
    producer.close()


def test_polling_alone_commits_nothing(cluster: Cluster) -> None:
    """Who commits: what was polled but not committed is read again by the next member."""
    cluster.write("a", "b")
    group = cluster.group()
    first = Member(cluster.kafka.consumer(group)).join(cluster.source)
    assert len(first.read(2)) == 2
    first.consumer.close()
    second = Member(cluster.kafka.consumer(group)).join(cluster.source)
    assert [text(r) for r in second.read(2)] == ["a", "b"]
    second.consumer.close()


def test_a_committed_position_and_its_note_are_found_again(cluster: Cluster) -> None:
    """Commit: the next member starts there, and the note is kept beside the offset, for the admin too."""
    cluster.write("a", "b")
    group = cluster.group()
    place = Partition(cluster.source, 0)
    first = Member(cluster.kafka.consumer(group)).join(cluster.source)
    first.read(2)
    first.consumer.commit({place: Committed(1, "held")})
    first.consumer.close()
    second = Member(cluster.kafka.consumer(group)).join(cluster.source)
    assert [text(r) for r in second.read(1)] == ["b"]
    assert second.consumer.committed([place, Partition(cluster.source, 1)]) == {place: Committed(1, "held")}
    assert second.consumer.positions() == {p: second.consumer.position(p) for p in second.consumer.assignment()}
    admin = cluster.kafka.admin()
    assert admin.group_offsets(group)[place] == Committed(1, "held")
    assert admin.group_offsets(group, [place]) == {place: Committed(1, "held")}
    assert admin.group_offsets(group, [Partition(place.topic, place.partition + 1)]) == {}
    assert admin.groups_offsets([group, "nobody"]) == {group: {place: Committed(1, "held")}, "nobody": {}}
    assert (admin.group_members(group) > 0, admin.group_members("nobody")) == (True, 0)
    assert admin.groups_members([group, "nobody"]) == {group: admin.group_members(group), "nobody": 0}
    assert admin.groups_members([]) == {}
    second.consumer.close()


def test_a_commit_that_names_a_topic_that_there_is_not_is_refused_at_once_and_the_others_are_kept(
    cluster: Cluster,
) -> None:
    """Commit: one deleted topic keeps no other cursor back, and nobody waiting."""
    cluster.write("a")
    place, gone = Partition(cluster.source, 0), Partition(f"{cluster.name}.gone", 0)
    member = Member(cluster.kafka.consumer(cluster.group())).join(cluster.source)
    member.read(1)
    before = time.monotonic()
    with pytest.raises(UnknownTopicError):
        member.consumer.commit({gone: Committed(1), place: Committed(1)})
    assert time.monotonic() - before < 2
    assert member.consumer.committed([gone, place]) == {place: Committed(1)}
    member.consumer.close()


def test_another_thread_may_commit_while_the_group_is_polled_and_dealt_anew(cluster: Cluster) -> None:
    """Threads: what was not refused is there; a member that joins meanwhile costs no more than refusals."""
    group, place = cluster.group(), Partition(cluster.target, 0)
    first = Member(cluster.kafka.consumer(group)).join(cluster.source)
    poll_until(lambda: bool(polled(first.consumer) or first.assigned))
    taken, done = [0], threading.Event()

    def commit() -> None:
        for at in range(1, 60):
            try:
                first.consumer.commit({place: Committed(at)})
            except UnavailableError:
                continue
            taken.append(at)
        done.set()

    committer = threading.Thread(target=commit)
    committer.start()
    second = Member(cluster.kafka.consumer(group)).join(cluster.source)
    poll_until(lambda: bool(polled(first.consumer) or polled(second.consumer) or (second.assigned and done.is_set())))
    committer.join(10)
    assert len(taken) > 1
    assert first.consumer.committed([place]) == {place: Committed(taken[-1])}
    for member in (first, second):
        member.consumer.close()


def test_who_closes_gives_up_what_it_reads_and_may_commit_once_more(cluster: Cluster) -> None:
    """Rebalance: leaving is one too, and a commit in its callback counts, from whichever thread it is made."""
    cluster.write("a")
    group, place = cluster.group(), Partition(cluster.source, 0)
    leaving = cluster.kafka.consumer(group)

    def commit(revoked: Collection[Partition]) -> None:
        if place in revoked:  # at the first joining nothing is given up yet
            committer = threading.Thread(target=leaving.commit, args=({place: Committed(1, "left")},))
            committer.start()
            committer.join(10)

    leaving.subscribe([cluster.source], lambda _: None, commit)
    poll_until(lambda: bool(polled(leaving)))
    leaving.close()
    assert cluster.kafka.admin().group_offsets(group)[place] == Committed(1, "left")


def test_an_admin_commits_for_a_group_only_while_it_has_no_member(cluster: Cluster) -> None:
    """Admin: what members hold is told, and with members there the position is theirs to commit, until put out."""
    cluster.write("a", "b")
    group, place = cluster.group(), Partition(cluster.source, 0)
    admin = cluster.kafka.admin()
    admin.set_group_offsets(group, {place: Committed(1)})
    assert admin.group_offsets(group)[place] == Committed(1)
    assert admin.group_assignment(group) == set()
    member = Member(cluster.kafka.consumer(group)).join(cluster.source)
    assert [text(r) for r in member.read(1)] == ["b"]
    poll_until(lambda: polled(member.consumer) == [] and settled(admin, group) == member.consumer.assignment())
    with pytest.raises(ConflictError):
        admin.set_group_offsets(group, {place: Committed(0)})
    admin.evict_members(group)
    assert admin.group_members(group) == 0
    admin.set_group_offsets(group, {place: Committed(0)})
    admin.evict_members(group)  # nobody to put out
    member.consumer.close()
    admin.close()


def settled(admin: Admin, group: str) -> set[Partition]:
    """Return what the group's members hold, nothing while it is rebalancing."""
    try:
        return admin.group_assignment(group)
    except UnavailableError:
        return set()


def test_a_paused_partition_is_silent_and_others_are_not(cluster: Cluster) -> None:
    """Pause: nothing of it comes until resume, twice is once, and the other partition flows."""
    member = Member(cluster.kafka.consumer(cluster.group())).join(cluster.source)
    poll_until(lambda: polled(member.consumer) == [] and len(member.consumer.assignment()) == 2)
    member.consumer.pause([Partition(cluster.source, 0)])
    member.consumer.pause([Partition(cluster.source, 0)])
    cluster.write("paused", partition=0)
    cluster.write("flows", partition=1)
    assert [text(r) for r in member.read(1)] == ["flows"]
    member.consumer.resume([Partition(cluster.source, 0)])
    assert [text(r) for r in member.read(1)] == ["paused"]
    member.consumer.close()


def test_a_partition_paused_halfway_gives_the_rest_after_resume(cluster: Cluster) -> None:
    """Resume: what was fetched before the pause is not lost, also when another partition was read empty meanwhile."""
    cluster.write(*(f"a{n}" for n in range(10)), partition=0)
    cluster.write(*(f"b{n}" for n in range(10)), partition=1)
    consumer = cluster.kafka.consumer(cluster.group())
    consumer.subscribe([cluster.source], lambda _: None, lambda _: None)
    got: dict[int, list[str]] = {0: [], 1: []}

    def read(max_records: int) -> None:
        for partition, records in consumer.poll(0.2, max_records).items():
            got[partition.partition] += [text(r) for r in records]

    poll_until(lambda: (read(3), got[0] or got[1])[1] != [])
    first = 0 if got[0] else 1
    consumer.pause([Partition(cluster.source, first)])
    poll_until(lambda: (read(100), len(got[1 - first]) == 10)[1])
    poll_until(lambda: consumer.poll(0.05, 100) == {})
    consumer.resume([Partition(cluster.source, first)])
    poll_until(lambda: (read(100), len(got[first]) == 10)[1])
    assert got == {0: [f"a{n}" for n in range(10)], 1: [f"b{n}" for n in range(10)]}
    consumer.close()


def test_state_can_be_restored_before_the_first_record(cluster: Cluster) -> None:
    """Rebalance: on_assigned comes before any record of the partition, and the position is known in it."""
    cluster.write("a")
    seen: list[int] = []
    consumer = cluster.kafka.consumer(cluster.group())

    def restore(given: Collection[Partition]) -> None:
        seen.extend(consumer.position(partition) for partition in given)

    consumer.subscribe([cluster.source], restore, lambda _: None)
    poll_until(lambda: bool(polled(consumer)))
    assert seen == [0, 0]
    consumer.close()


def test_after_a_rebalance_reading_starts_from_what_is_committed(cluster: Cluster) -> None:
    """Rebalance: a partition that a member keeps is read again from the commit, not from where it had read to."""
    cluster.write("a", "b", "c")
    member = Member(cluster.kafka.consumer(cluster.group())).join(cluster.source)
    member.read(3)
    member.consumer.commit({Partition(cluster.source, 0): Committed(1)})
    positions: list[int] = []
    consumer = member.consumer

    def note(given: Collection[Partition]) -> None:
        positions.extend(consumer.position(p) for p in given if p == Partition(cluster.source, 0))

    consumer.subscribe([cluster.source, cluster.target], note, lambda _: None)
    assert [text(r) for r in member.read(2)] == ["b", "c"]
    assert positions[0] == 1
    consumer.close()


def test_a_second_member_takes_over_part_of_the_partitions(cluster: Cluster) -> None:
    """Rebalance: partitions are given away only after on_revoked, and each is one member's."""
    group = cluster.group()
    first = Member(cluster.kafka.consumer(group)).join(cluster.source)
    poll_until(lambda: polled(first.consumer) == [] and len(first.consumer.assignment()) == 2)
    second = Member(cluster.kafka.consumer(group)).join(cluster.source)
    poll_until(
        lambda: (
            polled(first.consumer) == polled(second.consumer) == []
            and len(first.consumer.assignment()) == len(second.consumer.assignment()) == 1
        )
    )
    assert first.revoked
    assert first.consumer.assignment().isdisjoint(second.consumer.assignment())
    first.consumer.close()
    second.consumer.close()


def test_a_transaction_is_visible_as_a_whole(cluster: Cluster) -> None:
    """Transactions: before the commit nothing is seen; after it the records and the offsets are."""
    cluster.write("a", "b")
    group = cluster.group()
    member = Member(cluster.kafka.consumer(group)).join(cluster.source)
    member.read(2)
    producer = cluster.kafka.transactional_producer(f"{cluster.name}-tx")
    producer.begin()
    sent = producer.send(cluster.target, key=b"k", value=b"A")
    producer.send_offsets({Partition(cluster.source, 0): 2}, member.consumer)
    assert cluster.read_target() == []
    producer.commit()
    assert sent.result(5).offset == 0
    assert cluster.read_target() == ["A"]
    assert member.consumer.committed([Partition(cluster.source, 0)])[Partition(cluster.source, 0)].offset == 2
    member.consumer.close()
    producer.close()


def test_the_end_of_a_log_is_after_what_an_open_transaction_has_appended(cluster: Cluster) -> None:
    """``log_ends``: a reader's end stops before the transaction; whoever reads to the log's end gets what it leaves."""
    place = Partition(cluster.target, 0)
    cluster.kafka.producer().send(cluster.target, key=b"k", value=b"before", partition=0).result(10)
    producer = cluster.kafka.transactional_producer(f"{cluster.name}-ends")
    admin, reader = cluster.kafka.admin(), cluster.kafka.consumer(None)
    assert admin.log_ends([place]) == reader.end_offsets([place]) == {place: 1}
    producer.begin()
    producer.send(cluster.target, key=b"k", value=b"under way", partition=0)
    eventually(lambda: admin.log_ends([place])[place] == 2, 30, "the record is appended")
    assert reader.end_offsets([place])[place] == 1
    producer.commit()
    reader.close()
    assert cluster.read_target() == ["before", "under way"]
    admin.close()
    producer.close()


def test_an_aborted_transaction_leaves_nothing(cluster: Cluster) -> None:
    """Transactions: after an abort neither records nor offsets are there, and the next transaction works."""
    cluster.write("a")
    member = Member(cluster.kafka.consumer(cluster.group())).join(cluster.source)
    member.read(1)
    producer = cluster.kafka.transactional_producer(f"{cluster.name}-tx")
    producer.begin()
    producer.send(cluster.target, key=b"k", value=b"lost")
    producer.send_offsets({Partition(cluster.source, 0): 1}, member.consumer)
    producer.abort()
    producer.abort()
    assert member.consumer.committed([Partition(cluster.source, 0)]) == {}
    producer.begin()
    producer.send(cluster.target, key=b"k", value=b"kept")
    producer.commit()
    assert cluster.read_target() == ["kept"]
    member.consumer.close()
    producer.close()


def test_the_newer_producer_of_one_transactional_id_wins(cluster: Cluster) -> None:
    """Fencing: the older producer is lost for good, and what it had open is not seen."""
    older = cluster.kafka.transactional_producer(f"{cluster.name}-tx")
    older.begin()
    older.send(cluster.target, key=b"k", value=b"zombie")
    newer = cluster.kafka.transactional_producer(f"{cluster.name}-tx")
    with pytest.raises(ProducerLostError):
        older.commit()
    newer.begin()
    newer.send(cluster.target, key=b"k", value=b"alive")
    newer.commit()
    assert cluster.read_target() == ["alive"]
    older.close()
    newer.close()


def test_a_member_whose_instance_was_taken_over_cannot_commit_in_a_transaction(cluster: Cluster) -> None:
    """Rebalance: a stalled process that was replaced can't commit offsets any more, so nothing is doubled."""
    cluster.write("a")
    group = cluster.group()
    stalled = Member(cluster.kafka.consumer(group, instance="slot")).join(cluster.source)
    stalled.read(1)
    successor = Member(cluster.kafka.consumer(group, instance="slot")).join(cluster.source)
    assert [text(r) for r in successor.read(1)] == ["a"]
    producer = cluster.kafka.transactional_producer(f"{cluster.name}-tx")
    producer.begin()
    producer.send(cluster.target, key=b"k", value=b"doubled")
    with pytest.raises((TransactionFailedError, ProducerLostError)):
        producer.send_offsets({Partition(cluster.source, 0): 1}, stalled.consumer)
        producer.commit()
    producer.close()
    assert cluster.kafka.transactional_producer(f"{cluster.name}-tx") is not None
    assert cluster.read_target() == []
    successor.consumer.close()


def test_closing_twice_is_closing_once(cluster: Cluster) -> None:
    """Called twice: close may be called any number of times."""
    consumer = cluster.kafka.consumer(cluster.group())
    consumer.close()
    consumer.close()
    producer = cluster.kafka.producer()
    producer.close()
    producer.close()


def test_a_record_too_large_for_its_topic_is_refused_for_good_and_the_next_one_is_taken(cluster: Cluster) -> None:
    """Send: the topic's own limit counts, not the broker's; the refusal is no outage, and costs the others nothing."""
    admin = cluster.kafka.admin()
    small = f"{cluster.name}.small"
    admin.ensure_topics([TopicSpec(small, 1, max_message_bytes=300_000)])
    producer = cluster.kafka.producer()
    for value in (b"x" * 400_000, b"x" * 3_000_000):
        with pytest.raises(RecordTooLargeError):
            producer.send(small, key=b"k", value=value, partition=0).result(10)
    assert producer.send(small, key=b"k", value=b"x" * 200_000, partition=0).result(10).offset == 0
    large = producer.send(cluster.target, key=b"k", value=b"x" * 1_900_000, partition=0)
    assert large.result(10).offset == 0
    producer.close()
    admin.delete_topics([small])
    admin.close()


def test_a_flush_ends_when_every_outcome_is_known(cluster: Cluster) -> None:
    """Flush: it waits for the acknowledgements and the refusals alike, and leaves it to each record to tell."""
    admin = cluster.kafka.admin()
    small = f"{cluster.name}.small"
    admin.ensure_topics([TopicSpec(small, 1, max_message_bytes=60_000)])
    producer = cluster.kafka.producer()
    outcomes: list[str] = []
    for size in (10, 80_000, 10):
        sent = producer.send(small, key=b"k", value=b"x" * size, partition=0)
        sent.then(lambda placed, error: outcomes.append("placed" if placed else type(error).__name__))
    producer.flush(20)
    assert sorted(outcomes) == ["RecordTooLargeError", "placed", "placed"]
    producer.close()
    admin.delete_topics([small])
    admin.close()


def test_a_transaction_with_a_record_too_large_for_its_topic_never_commits(cluster: Cluster) -> None:
    """Commit: the size is told, nothing of the transaction is visible, and the producer that follows goes on."""
    admin = cluster.kafka.admin()
    small, name = f"{cluster.name}.small", f"{cluster.name}.sized"
    admin.ensure_topics([TopicSpec(small, 1, max_message_bytes=60_000)])
    assert admin.size_limits([small, cluster.target]) == {small: 60_000, cluster.target: 2 * 1024 * 1024}
    producer = cluster.kafka.transactional_producer(name)
    producer.learn([small])
    producer.begin()
    for size in (10, 80_000, 10):
        producer.send(small, key=b"k", value=b"x" * size, partition=0)
    with pytest.raises(RecordTooLargeError):
        producer.commit()
    producer.close()
    follower = cluster.kafka.transactional_producer(name)
    follower.begin()
    follower.send(small, key=b"k", value=b"last", partition=0)
    follower.commit()
    follower.close()
    reader = cluster.kafka.consumer(None)
    reader.assign([Partition(small, 0)])
    found: list[bytes | None] = []
    eventually(lambda: found.extend(r.value for rs in reader.poll(0.2, 10).values() for r in rs) or found)
    assert found == [b"last"]
    reader.close()
    admin.delete_topics([small])
    admin.close()


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"partitions": 12}, "partitions 现为 2，应为 12"),
        ({"max_message_bytes": 1_000_000}, "max.message.bytes 现为 2097152，应为 1000000"),
        ({"compacted": True}, "cleanup.policy 现为 delete，应为 compact"),
    ],
)
def test_an_existing_topic_that_is_made_otherwise_is_refused(
    cluster: Cluster, wanted: dict[str, Any], said: str
) -> None:
    """Admin: the topic, what was found and what is wanted are named, and nothing is created."""
    admin = cluster.kafka.admin()
    other = f"{cluster.name}.other"
    with pytest.raises(ConflictError) as refused:
        admin.ensure_topics([TopicSpec(other, 1), replace(TopicSpec(cluster.source, 2), **wanted)])
    assert cluster.source in str(refused.value)
    assert said in str(refused.value)
    assert other not in admin.list_topics()
    admin.ensure_topics([TopicSpec(cluster.source, 2, retention_ms=1000)])
    admin.close()


def test_ensuring_a_topic_twice_leaves_it_as_it_is(cluster: Cluster) -> None:
    """Admin: an existing topic is left alone."""
    admin = cluster.kafka.admin()
    admin.ensure_topics([TopicSpec(cluster.source, 2)])
    assert cluster.source in admin.list_topics()
    admin.close()


@pytest.mark.parametrize("position", [5, 10**12])
def test_an_exact_reader_says_that_a_position_is_not_on_the_log(cluster: Cluster, position: int) -> None:
    """Where another would go on at the beginning and say nothing; put right, it reads on."""
    cluster.write("a", "b")
    reader, place = cluster.kafka.consumer(None, exact=True), Partition(cluster.source, 0)
    try:
        reader.assign([place])
        reader.seek(place, position)
        with pytest.raises(OffTheLogError):
            poll_until(lambda: bool(polled(reader)))
        reader.seek(place, 1)
        found: list[Record] = []
        poll_until(lambda: take_up(found, reader) >= 1)
        assert [text(record) for record in found] == ["b"]
    finally:
        reader.close()


def test_an_exact_reader_reads_on_beside_a_partition_that_is_new(cluster: Cluster) -> None:
    """Until the new one has been sought no position can be asked for; what was known of the others is kept."""
    cluster.write("a", "b")
    reader = cluster.kafka.consumer(None, exact=True)
    first, second = Partition(cluster.source, 0), Partition(cluster.source, 1)
    try:
        reader.assign([first])
        reader.seek(first, 1)
        reader.assign([first, second])
        assert reader.positions() == {first: 1}
        with pytest.raises(UnavailableError):
            reader.position(first)
        reader.seek(second, 0)
        assert (reader.position(first), reader.position(second)) == (1, 0)
    finally:
        reader.close()


def test_a_topic_that_is_made_anew_has_another_id(cluster: Cluster) -> None:
    """A reader learns of it by itself, soon."""
    reader, admin, topic = cluster.kafka.consumer(None), cluster.kafka.admin(), f"{cluster.name}.again"
    try:
        admin.ensure_topics([TopicSpec(topic, 1)])
        reader.assign([Partition(topic, 0)])
        eventually(lambda: polled(reader) or reader.topic_ids([topic]))
        before = reader.topic_ids([topic])
        admin.delete_topics([topic])
        eventually(lambda: topic not in admin.list_topics())
        admin.ensure_topics([TopicSpec(topic, 1)])
        eventually(lambda: (now := reader.topic_ids([topic])) and now != before)
    finally:
        admin.delete_topics([topic])
        reader.close()
        admin.close()


def test_the_bounds_of_a_topic_that_is_a_moment_old_are_known(cluster: Cluster) -> None:
    """A reader that asked about others before finds a new one, too."""
    reader, admin = cluster.kafka.consumer(None), cluster.kafka.admin()
    try:
        reader.assign([Partition(cluster.source, 0)])
        assert reader.end_offsets([Partition(cluster.source, 0)])
        for number in range(3):
            young = Partition(f"{cluster.name}.young.{number}", 0)
            admin.ensure_topics([TopicSpec(young.topic, 1)])
            assert (reader.beginning_offsets([young]), reader.end_offsets([young])) == ({young: 0}, {young: 0})
            admin.delete_topics([young.topic])
    finally:
        reader.close()
        admin.close()
