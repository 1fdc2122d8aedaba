"""The port to Kafka: what the rest of Hongyan may expect of any adapter, in prose. No client library is named above it.

**Order.** ``poll`` gives the records of one partition in offset order, each once per assignment, aborted transactions
left out (read committed). There is no order between partitions.

**Keys.** A record that names no partition goes to the one that :func:`partition_of` gives for its key.

**Blocking.** ``poll`` blocks up to its time-out and is also what keeps membership alive: a caller that works longer
than ``max_poll_interval`` between polls loses its partitions. ``send`` may block while buffers are full or metadata is
unknown. Everything else blocks until the broker has answered or raises :class:`UnavailableError`.

**Who commits.** Nobody but the caller: nothing is committed on ``poll``, on rebalance or on ``close``. A consumer's own
``commit`` is for at-least-once work; a transaction commits offsets with ``send_offsets`` and only so.

**Rebalance.** The assignment changes only inside ``poll``. ``on_revoked`` is called before partitions are given away
and ``on_assigned`` before any record of a new partition is returned, so that state can be restored in it; positions
are then what the group has committed, or the beginning. Partitions may also be lost without ``on_revoked`` (a stalled
process): the commit that follows fails, and the work is another member's.

**Transactions.** ``begin`` … ``send`` … ``send_offsets`` … ``commit``. ``commit`` returns only when all of it is on the
log, or raises :class:`TransactionFailedError` (abort, then seek back: nothing is visible) or
:class:`ProducerLostError` (fenced or unknown: close both clients and build them anew; building ends what was open).
Two producers with one ``transactional_id``: the newer wins and the older is lost.

**Called twice.** ``close``, ``abort``, ``pause`` and ``resume`` may be called any number of times. ``begin`` may not be
called inside a transaction.

**Threads.** A consumer belongs to one thread, but for ``commit``, which one other may call beside it: what it commits
under a membership that has ended meanwhile is refused. A plain producer may be shared; a transactional one may not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from schemas.topics import TopicSpec

HeaderList = Sequence[tuple[str, bytes]]


class Partition(NamedTuple):
    """A topic's partition."""

    topic: str
    partition: int


class Record(Protocol):
    """One record of a log. ``timestamp`` is in milliseconds since the epoch."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> HeaderList: ...


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a record came to stand."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Committed:
    """A group's committed position in one partition, with the note stored beside it."""

    offset: int
    note: str = ""


class Sent(Protocol):
    """The outcome of one ``send``, to come."""

    def result(self, timeout_s: float) -> Placed:
        """Wait for the broker's acknowledgement.

        Raises UnavailableError when there was none, RecordTooLargeError when the topic takes no record of this size.
        """
        ...

    def then(self, on_done: Callable[[Placed | None, Exception | None], None]) -> None:
        """Call back once with the place or the error, from the producer's own thread."""
        ...


Rebalanced = Callable[[Collection[Partition]], None]


class Consumer(Protocol):
    """A member of a consumer group, or a reader of partitions that it names itself (see the module's contract)."""

    def subscribe(self, topics: Collection[str], on_assigned: Rebalanced, on_revoked: Rebalanced) -> None:
        """Join the group for these topics; called again, it replaces them."""
        ...

    def assign(self, partitions: Collection[Partition]) -> None:
        """Read exactly these partitions, outside any group's balance."""
        ...

    def poll(self, timeout_s: float, max_records: int) -> Mapping[Partition, Sequence[Record]]:
        """Return what has come, by partition; raises UnavailableError."""
        ...

    def assignment(self) -> set[Partition]:
        """Return the partitions that are read now."""
        ...

    def pause(self, partitions: Collection[Partition]) -> None:
        """Return no records of these until ``resume``; other partitions are not slowed."""
        ...

    def resume(self, partitions: Collection[Partition]) -> None:
        """Return records of these again."""
        ...

    def seek(self, partition: Partition, offset: int) -> None:
        """Read on from this offset."""
        ...

    def position(self, partition: Partition) -> int:
        """Return the offset that will be read next."""
        ...

    def positions(self) -> dict[Partition, int]:
        """Return the offset that will be read next of every assigned partition of which it is known, asking nobody."""
        ...

    def committed(self, partitions: Collection[Partition]) -> dict[Partition, Committed]:
        """Return what the group has committed; a partition without any is left out."""
        ...

    def commit(self, offsets: Mapping[Partition, Committed]) -> None:
        """Commit these positions; raises UnavailableError (also when the partition is another member's by now).

        Raises UnknownTopicError at once where a topic is not known to the broker, or not yet: it has the others'.
        """
        ...

    def beginning_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Return the first offset still kept of each."""
        ...

    def offsets_at(self, partitions: Collection[Partition], timestamp_ms: int) -> dict[Partition, int]:
        """Return the first offset whose record is not older than this time; a partition without one is left out."""
        ...

    def end_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Return the offset after the last committed record of each."""
        ...

    def topic_ids(self, topics: Collection[str]) -> dict[str, str]:
        """Return the ids of those topics that are known, asking nobody: one deleted and made anew has another."""
        ...

    def close(self) -> None:
        """Leave the group."""
        ...


class Producer(Protocol):
    """An idempotent producer (acks=all)."""

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
        """Append one record; its outcome comes with the returned object.

        Raises UnavailableError, or RecordTooLargeError where the size is seen at once.
        """
        ...

    def ready(self, topic: str) -> bool:
        """Tell whether a send to this topic would wait for nothing, so that an event loop may make it.

        Where it would, what it would wait for is asked for meanwhile.
        """
        ...

    def flush(self, timeout_s: float) -> None:
        """Wait until everything sent is acknowledged or has failed: each ``Sent`` tells which.

        Raises UnavailableError when something is still under way after that time.
        """
        ...

    def close(self) -> None:
        """Give up what is not acknowledged, and close."""
        ...


class TransactionalProducer(Producer, Protocol):
    """A producer whose records and consumed offsets become visible together or not at all."""

    def begin(self) -> None:
        """Open a transaction."""
        ...

    def send_offsets(self, offsets: Mapping[Partition, int], consumer: Consumer) -> None:
        """Add the consumer's positions to the transaction, in its group and under its membership."""
        ...

    def commit(self) -> None:
        """Make it all visible; raises TransactionFailedError or ProducerLostError.

        And RecordTooLargeError, as ``send`` and ``send_offsets`` may, when a topic has refused a record for its size:
        then too the producer must be closed and built anew.
        """
        ...

    def abort(self) -> None:
        """Make nothing of it visible; raises ProducerLostError."""
        ...

    def learn(self, topics: Iterable[str]) -> None:
        """Fetch the metadata of these topics at once, so that no first send to one waits."""
        ...


class Admin(Protocol):
    """Creates topics and tells about groups."""

    def ensure_topics(self, specs: Iterable[TopicSpec]) -> None:
        """Create those that are missing; existing ones are left as they are.

        Raises ConflictError for an existing one with another partition count, cleanup, or limit of a record's size:
        it is named with what was found and what is wanted, and nothing is created.
        """
        ...

    def list_topics(self) -> set[str]:
        """Return the names of all topics."""
        ...

    def delete_topics(self, topics: Collection[str]) -> None:
        """Delete topics; a missing one is no error."""
        ...

    def cluster_id(self) -> str:
        """Return the cluster's id: state kept beside a log must not outlive it."""
        ...

    def log_ends(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Return the offset after the last record of each, one of an open transaction included.

        A reader's ``end_offsets`` stops before an open transaction; whoever must have read what it will leave reads to
        here, and waits meanwhile until it has ended.
        """
        ...

    def size_limits(self, topics: Collection[str]) -> dict[str, int]:
        """Return the largest record batch (bytes) that each of these topics takes."""
        ...

    def group_offsets(self, group: str, partitions: Collection[Partition] | None = None) -> dict[Partition, Committed]:
        """Return what a group has committed, with notes; of these partitions, where some are named."""
        ...

    def groups_offsets(self, groups: Collection[str]) -> dict[str, dict[Partition, Committed]]:
        """Return what each of many groups has committed, asked at once; nothing for one that there is not."""
        ...

    def group_members(self, group: str) -> int:
        """Return how many members a group has now; 0 for one that there is not."""
        ...

    def groups_members(self, groups: Collection[str]) -> dict[str, int]:
        """Return how many members each of many groups has now, asked at once.

        Raises UnavailableError where the broker can't tell of one: no answer is not the answer that there are none.
        """
        ...

    def set_group_offsets(self, group: str, offsets: Mapping[Partition, Committed]) -> None:
        """Commit for a group that has no member now; raises ConflictError when it has one."""
        ...

    def group_assignment(self, group: str) -> set[Partition]:
        """Return the partitions that a group's members hold; raises UnavailableError while it is rebalancing."""
        ...

    def put_user(self, user: str, password: str) -> None:
        """Make a user who logs in by SCRAM-SHA-256, or change the password; raises HongyanError when refused."""
        ...

    def allow_reading(self, user: str, topic: str, group: str) -> None:
        """Let a user read one topic in one group, and nothing else.

        Raises HongyanError when it is refused, NoAuthoriserError where the broker does not go by rights.
        """
        ...

    def forbid_reading(self, user: str, topic: str, group: str) -> None:
        """Take a user's rights to a topic and a group away, at once; raises what ``allow_reading`` raises.

        Who is a member of the group already stays one until it is put out.
        """
        ...

    def evict_members(self, group: str) -> None:
        """Put all members out of a group; those that may will join again when they notice."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class Kafka(Protocol):
    """Makes clients of one cluster. Composition roots hold one and hand out what each part needs."""

    def consumer(
        self,
        group: str | None,
        *,
        client_id: str = "hongyan",
        instance: str | None = None,
        from_end: bool = False,
        bulk: bool = False,
        exact: bool = False,
    ) -> Consumer:
        """Make a consumer; ``instance`` makes membership static: a restarted process gets its partitions back.

        ``bulk`` has the broker gather what comes for a moment: fewer and larger polls, for readers who don't deliver.
        ``exact``: where a position is not on the log, ``poll`` raises OffTheLogError; others go on at its beginning.
        """
        ...

    def producer(
        self, *, client_id: str = "hongyan", acknowledge_timeout_s: float = 30.0, bulk: bool = False
    ) -> Producer:
        """Make an idempotent producer that gives a record up after the time-out (seconds).

        ``bulk`` gathers larger batches, for throughput at the price of some milliseconds.
        """
        ...

    def transactional_producer(self, transactional_id: str) -> TransactionalProducer:
        """Make a transactional producer and end what its predecessor left open."""
        ...

    def admin(self, *, timeout_s: float = 30.0) -> Admin:
        """Make an admin client that waits so long for each answer."""
        ...
