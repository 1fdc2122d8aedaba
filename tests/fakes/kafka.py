"""An in-memory Kafka that keeps the port's contract; the same suite runs on it and on the real broker."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from schemas.topics import TopicSpec
from services.runtime.errors import (
    ConflictError,
    HongyanError,
    KafkaUnavailableError,
    NoAuthoriserError,
    OffTheLogError,
    ProducerLostError,
    RecordTooLargeError,
    TransactionFailedError,
    UnknownTopicError,
)
from services.runtime.kafka.admin import differences
from services.runtime.kafka.partitioning import partition_of
from services.runtime.kafka.port import Committed, Consumer, HeaderList, Partition, Placed, Rebalanced

UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class FakeRecord:
    """A record of the fake log."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: HeaderList


@dataclass(slots=True)
class Group:
    """A consumer group: its members in the order they joined, its generation and what it has committed."""

    members: dict[int, FakeConsumer] = field(default_factory=dict)
    generation: int = 0
    committed: dict[Partition, Committed] = field(default_factory=dict)


class FakeKafka:
    """A cluster in memory. ``away`` makes every call raise until it is set back."""

    def __init__(self) -> None:
        self.logs: dict[Partition, list[FakeRecord]] = {}
        self.partitions: dict[str, int] = {}
        self.specs: dict[str, TopicSpec] = {}
        self.groups: dict[str, Group] = {}
        self.epochs: dict[str, int] = {}
        self.open: dict[str, list[Partition]] = {}
        self.away = False
        self.firsts: dict[Partition, int] = {}
        self.topic_ids: dict[str, str] = {}
        self._ids = itertools.count()

    def check(self) -> None:
        """Raise when the cluster is away."""
        if self.away:
            raise KafkaUnavailableError("the fake cluster is away")

    def check_size(self, draft: Draft) -> None:
        """Raise for a record that its topic takes not."""
        if draft[0] in self.specs and len(draft[4] or b"") > self.specs[draft[0]].max_message_bytes:
            raise RecordTooLargeError(draft[0])

    def append(self, draft: Draft) -> Placed:
        """Put a record on the log."""
        self.check_size(draft)
        topic, partition, timestamp, key, value, headers = draft
        log = self.logs[Partition(topic, partition)]
        log.append(FakeRecord(topic, partition, len(log), timestamp, key, value, headers))
        return Placed(topic, partition, len(log) - 1)

    def consumer(
        self,
        group: str | None,
        *,
        client_id: str = "hongyan",
        instance: str | None = None,
        from_end: bool = False,
        bulk: bool = False,
        exact: bool = False,
    ) -> FakeConsumer:
        """Make a consumer."""
        self.check()
        return FakeConsumer(self, group, next(self._ids), instance, from_end=from_end, exact=exact)

    def producer(
        self, *, client_id: str = "hongyan", acknowledge_timeout_s: float = 30.0, bulk: bool = False
    ) -> FakeProducer:
        """Make a producer."""
        self.check()
        return FakeProducer(self)

    def transactional_producer(self, transactional_id: str) -> FakeTransactionalProducer:
        """Make a transactional producer; it fences the one before."""
        self.check()
        self.epochs[transactional_id] = self.epochs.get(transactional_id, 0) + 1
        self.open.pop(transactional_id, None)
        return FakeTransactionalProducer(self, transactional_id)

    def admin(self, *, timeout_s: float = 30.0) -> FakeAdmin:
        """Make an admin client."""
        return FakeAdmin(self)


class FakeConsumer:
    """A consumer of the fake."""

    def __init__(
        self,
        cluster: FakeKafka,
        group: str | None,
        member: int,
        instance: str | None,
        *,
        from_end: bool,
        exact: bool = False,
    ) -> None:
        self._cluster = cluster
        self._group = cluster.groups.setdefault(group, Group()) if group else None
        self._member = member
        self.instance = instance
        self._from_end = from_end
        self._exact = exact
        self._topics: set[str] = set()
        self._positions: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._generation = -1
        self._assigned: Rebalanced = lambda _: None
        self._revoked: Rebalanced = lambda _: None

    def subscribe(self, topics: Collection[str], on_assigned: Rebalanced, on_revoked: Rebalanced) -> None:
        """Join the group."""
        assert self._group is not None
        self._topics = set(topics)
        self._assigned, self._revoked = on_assigned, on_revoked
        for number, member in list(self._group.members.items()):
            if self.instance is not None and member.instance == self.instance and member is not self:
                del self._group.members[number]
        self._group.members[self._member] = self
        self._group.generation += 1

    def assign(self, partitions: Collection[Partition]) -> None:
        """Read exactly these."""
        if self._exact:
            # As the library: what was read is read on; of what is new no position is known until a seek.
            self._positions = {p: self._positions.get(p, UNKNOWN) for p in partitions}
        else:
            self._positions = {p: self._start(p) for p in partitions}

    def _start(self, partition: Partition) -> int:
        held = self._group.committed.get(partition) if self._group else None
        if held:
            return held.offset
        return len(self._cluster.logs[partition]) if self._from_end else 0

    def _balance(self) -> None:
        if self._group is None or self._generation == self._group.generation:
            return
        if self._member not in self._group.members:
            raise KafkaUnavailableError("another member took this instance over")
        if self._positions:
            self._revoked(list(self._positions))
        self._positions = {p: self._start(p) for p in self._share()}
        self._paused.clear()
        self._generation = self._group.generation
        self._assigned(list(self._positions))

    def _share(self) -> list[Partition]:
        assert self._group is not None
        shares: list[Partition] = []
        for topic in sorted(self._topics):
            members = [m for m, c in sorted(self._group.members.items()) if topic in c._topics]
            mine = members.index(self._member)
            count = self._cluster.partitions[topic]
            shares += [Partition(topic, n) for n in range(count) if n * len(members) // count == mine]
        return shares

    def poll(self, timeout_s: float, max_records: int) -> Mapping[Partition, Sequence[FakeRecord]]:
        """Return what has come."""
        self._cluster.check()
        self._balance()
        self._check_known()
        found: dict[Partition, Sequence[FakeRecord]] = {}
        left = max_records
        for partition, position in self._positions.items():
            if partition in self._paused or left <= 0:
                continue
            at = self._on_the_log(partition, position)
            records = self._cluster.logs.get(partition, [])[at : at + left]
            if records:
                found[partition] = records
                self._positions[partition] = at + len(records)
                left -= len(records)
        return found

    def _on_the_log(self, partition: Partition, position: int) -> int:
        if partition not in self._cluster.logs:
            return position
        first, end = self._cluster.firsts.get(partition, 0), len(self._cluster.logs[partition])
        if first <= position <= end:
            return position
        if self._exact:
            raise OffTheLogError(f"{partition} {position}")
        return first

    def assignment(self) -> set[Partition]:
        """Return what is read now."""
        return set(self._positions)

    def pause(self, partitions: Collection[Partition]) -> None:
        """Return nothing of these."""
        self._paused |= set(partitions)

    def resume(self, partitions: Collection[Partition]) -> None:
        """Return them again."""
        self._paused -= set(partitions)

    def seek(self, partition: Partition, offset: int) -> None:
        """Read on from here."""
        self._positions[partition] = offset

    def position(self, partition: Partition) -> int:
        """Return the next offset."""
        self._check_known()
        return self._positions[partition]

    def _check_known(self) -> None:
        """Raise where any position is unknown: the library looks at them all, whichever is asked for."""
        unknown = [partition for partition, position in self._positions.items() if position == UNKNOWN]
        if unknown:
            raise KafkaUnavailableError(f"no position of {unknown}")

    def positions(self) -> dict[Partition, int]:
        """Return every position."""
        return {partition: position for partition, position in self._positions.items() if position != UNKNOWN}

    def committed(self, partitions: Collection[Partition]) -> dict[Partition, Committed]:
        """Return what is committed."""
        self._cluster.check()
        held = self._group.committed if self._group else {}
        return {p: held[p] for p in partitions if p in held}

    def commit(self, offsets: Mapping[Partition, Committed]) -> None:
        """Commit; refused to a stale member, and for a topic that there is not."""
        self._cluster.check()
        self.check_membership(KafkaUnavailableError)
        assert self._group is not None
        known = {p: c for p, c in offsets.items() if p.topic in self._cluster.partitions}
        self._group.committed.update(known)
        if len(known) < len(offsets):
            raise UnknownTopicError

    def check_membership(self, error: type[KafkaUnavailableError] | type[TransactionFailedError]) -> None:
        """Raise when the group has moved on since this member last polled."""
        if self._group is not None and self._topics and self._generation != self._group.generation:
            raise error("the member is stale")

    def beginning_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Return zero for each whose records are all kept."""
        return {p: self._cluster.firsts.get(p, 0) for p in partitions}

    def offsets_at(self, partitions: Collection[Partition], timestamp_ms: int) -> dict[Partition, int]:
        """Return the first offset that is not older."""
        firsts = {
            p: next((r.offset for r in self._cluster.logs[p] if r.timestamp >= timestamp_ms), None) for p in partitions
        }
        return {p: offset for p, offset in firsts.items() if offset is not None}

    def end_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Return the length of each; for a topic that there is not, the broker gives no answer."""
        self._cluster.check()
        missing = [p.topic for p in partitions if p not in self._cluster.logs]
        if missing:
            raise KafkaUnavailableError(f"no topics {missing}")
        return {p: len(self._cluster.logs[p]) for p in partitions}

    def topic_ids(self, topics: Collection[str]) -> dict[str, str]:
        """Return the ids of topics."""
        return {topic: self._cluster.topic_ids[topic] for topic in topics if topic in self._cluster.topic_ids}

    def close(self) -> None:
        """Leave the group; what is read is given back first, as the library does."""
        if self._group is not None and self._member in self._group.members:
            if self._positions:
                self._revoked(list(self._positions))
            del self._group.members[self._member]
            self._group.generation += 1


Draft = tuple[str, int, int, bytes | None, bytes | None, HeaderList]


@dataclass(slots=True)
class FakeSent:
    """An outcome that is there, or comes with the commit."""

    place: Placed | None = None
    error: Exception | None = None
    waiting: list[Callable[[Placed | None, Exception | None], None]] = field(default_factory=list)

    def settle(self, place: Placed | None, error: Exception | None = None) -> None:
        """Tell the outcome."""
        self.place, self.error = place, error
        for on_done in self.waiting:
            on_done(place, error)

    def result(self, timeout_s: float) -> Placed:
        """Return the place."""
        if self.place is None:
            raise self.error or KafkaUnavailableError("not acknowledged")
        return self.place

    def then(self, on_done: Callable[[Placed | None, Exception | None], None]) -> None:
        """Call back with the outcome."""
        if self.place or self.error:
            on_done(self.place, self.error)
        else:
            self.waiting.append(on_done)


class FakeProducer:
    """A producer of the fake."""

    def __init__(self, cluster: FakeKafka) -> None:
        self._cluster = cluster

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: HeaderList = (),
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> FakeSent:
        """Append at once."""
        self._cluster.check()
        draft = self._draft(topic, key, value, headers, partition, timestamp_ms)
        sent = FakeSent()
        try:
            sent.settle(self._cluster.append(draft))
        except RecordTooLargeError as error:
            sent.settle(None, error)
        return sent

    def _draft(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: HeaderList,
        partition: int | None,
        timestamp_ms: int | None,
    ) -> Draft:
        if topic not in self._cluster.partitions:
            raise KafkaUnavailableError(f"no topic {topic}")
        if partition is None:
            partition = partition_of(key or b"", self._cluster.partitions[topic])
        stamp = timestamp_ms if timestamp_ms is not None else time.time_ns() // 1_000_000
        return topic, partition, stamp, key, value, list(headers)

    def ready(self, topic: str) -> bool:
        """Tell that a send waits for nothing."""
        return True

    def flush(self, timeout_s: float) -> None:
        """Nothing is ever outstanding."""
        self._cluster.check()

    def close(self) -> None:
        """Nothing to close."""


class FakeTransactionalProducer(FakeProducer):
    """A transactional producer of the fake: what is sent becomes visible at the commit."""

    def __init__(self, cluster: FakeKafka, transactional_id: str) -> None:
        super().__init__(cluster)
        self._id = transactional_id
        self._epoch = cluster.epochs[transactional_id]
        self._open = False
        self._drafts: list[tuple[Draft, FakeSent]] = []
        self._offsets: list[tuple[FakeConsumer, dict[Partition, int]]] = []

    def _check_fence(self) -> None:
        self._cluster.check()
        if self._cluster.epochs[self._id] != self._epoch:
            raise ProducerLostError("fenced")

    def begin(self) -> None:
        """Open."""
        self._check_fence()
        if self._open:
            raise ProducerLostError("a transaction is open already")
        self._open = True

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: HeaderList = (),
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> FakeSent:
        """Keep until the commit."""
        sent = FakeSent()
        draft = self._draft(topic, key, value, headers, partition, timestamp_ms)
        self._drafts.append((draft, sent))
        self._cluster.open.setdefault(self._id, []).append(Partition(draft[0], draft[1]))
        return sent

    def send_offsets(self, offsets: Mapping[Partition, int], consumer: Consumer) -> None:
        """Keep until the commit."""
        assert isinstance(consumer, FakeConsumer)
        self._check_fence()
        consumer.check_membership(TransactionFailedError)
        self._offsets.append((consumer, dict(offsets)))

    def commit(self) -> None:
        """Append everything and commit the offsets."""
        self._check_fence()
        for draft, _ in self._drafts:
            self._cluster.check_size(draft)
        for draft, sent in self._drafts:
            sent.settle(self._cluster.append(draft))
        for consumer, offsets in self._offsets:
            assert consumer._group is not None
            consumer._group.committed.update({p: Committed(o) for p, o in offsets.items()})
        self._clear()

    def abort(self) -> None:
        """Drop everything."""
        for _, sent in self._drafts:
            sent.settle(None, TransactionFailedError("aborted"))
        self._clear()

    def _clear(self) -> None:
        self._open = False
        self._cluster.open.pop(self._id, None)
        self._drafts.clear()
        self._offsets.clear()

    def learn(self, topics: Iterable[str]) -> None:
        """Nothing to learn."""


class FakeAdmin:
    """Topics and groups of the fake."""

    def __init__(self, cluster: FakeKafka) -> None:
        self._cluster = cluster

    def ensure_topics(self, specs: Iterable[TopicSpec]) -> None:
        """Create the missing ones; raises ConflictError for an existing one that is made otherwise."""
        self._cluster.check()
        wanted = list(specs)
        for spec in wanted:
            made = self._cluster.specs.setdefault(spec.name, spec)
            different = differences(spec, made.partitions, made.config())
            if different:
                raise ConflictError("\n".join(different))
        for spec in wanted:
            self._cluster.topic_ids.setdefault(spec.name, secrets.token_hex(4))
            if self._cluster.partitions.setdefault(spec.name, spec.partitions) == spec.partitions:
                for number in range(spec.partitions):
                    self._cluster.logs.setdefault(Partition(spec.name, number), [])

    def list_topics(self) -> set[str]:
        """Return the names."""
        return set(self._cluster.partitions)

    def delete_topics(self, topics: Collection[str]) -> None:
        """Delete, and what groups have committed there; a missing one is no error."""
        for topic in topics:
            self._cluster.topic_ids.pop(topic, None)
            for group in self._cluster.groups.values():
                for partition in [p for p in group.committed if p.topic == topic]:
                    del group.committed[partition]
            for number in range(self._cluster.partitions.pop(topic, 0)):
                self._cluster.logs.pop(Partition(topic, number))

    def cluster_id(self) -> str:
        """Return the cluster's id."""
        return f"fake-{id(self._cluster)}"

    def log_ends(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Return the length of each, with what open transactions will append."""
        self._cluster.check()
        under_way = [place for places in self._cluster.open.values() for place in places]
        return {p: len(self._cluster.logs[p]) + under_way.count(p) for p in partitions}

    def size_limits(self, topics: Collection[str]) -> dict[str, int]:
        """Return what topics were made with."""
        return {topic: self._cluster.specs[topic].max_message_bytes for topic in topics}

    def group_offsets(self, group: str, partitions: Collection[Partition] | None = None) -> dict[Partition, Committed]:
        """Return what a group has committed."""
        held = self._cluster.groups.get(group)
        committed = dict(held.committed) if held else {}
        return {p: c for p, c in committed.items() if partitions is None or p in partitions}

    def groups_offsets(self, groups: Collection[str]) -> dict[str, dict[Partition, Committed]]:
        """Return what each group has committed."""
        return {group: self.group_offsets(group) for group in groups}

    def group_members(self, group: str) -> int:
        """Return how many members a group has."""
        return self.groups_members([group])[group]

    def groups_members(self, groups: Collection[str]) -> dict[str, int]:
        """Return how many members each of many groups has."""
        found = self._cluster.groups
        return {group: len(found[group].members) if group in found else 0 for group in groups}

    def set_group_offsets(self, group: str, offsets: Mapping[Partition, Committed]) -> None:
        """Commit for a group without members."""
        held = self._cluster.groups.setdefault(group, Group())
        if held.members:
            raise ConflictError(f"{group} has members")
        held.committed.update(offsets)

    def group_assignment(self, group: str) -> set[Partition]:
        """Return what the members hold."""
        held = self._cluster.groups.get(group)
        return {p for member in held.members.values() for p in member.assignment()} if held else set()

    def put_user(self, user: str, password: str) -> None:
        """There are no users here."""
        raise HongyanError("the fake has no users")

    def allow_reading(self, user: str, topic: str, group: str) -> None:
        """There is no authoriser here."""
        raise NoAuthoriserError("the fake has no authoriser")

    def forbid_reading(self, user: str, topic: str, group: str) -> None:
        """There is no authoriser here."""
        raise NoAuthoriserError("the fake has no authoriser")

    def evict_members(self, group: str) -> None:
        """Put all members out: each is refused from then on."""
        held = self._cluster.groups.get(group)
        if held is not None:
            held.members.clear()
            held.generation += 1

    def close(self) -> None:
        """Nothing to close."""
