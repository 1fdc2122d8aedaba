"""The kafka-python adapter of the Kafka port (see :mod:`services.runtime.kafka.port` for the contract)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    InvalidProducerEpochError,
    InvalidProducerIdMappingError,
    KafkaError,
    KafkaTimeoutError,
    ProducerFencedError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from kafka.future import Future
from kafka.partitioner.default import murmur2
from kafka.structs import OffsetAndMetadata

from schemas.topics import STORED_MAX_BYTES
from services.runtime.errors import (
    HongyanError,
    KafkaUnavailableError,
    ProducerLostError,
    RecordTooLargeError,
    TransactionFailedError,
)
from services.runtime.kafka.admin import KafkaPythonAdmin
from services.runtime.kafka.port import (
    Committed,
    Consumer,
    HeaderList,
    Kafka,
    Partition,
    Placed,
    Rebalanced,
    Record,
    Sent,
)
from services.runtime.kafka.wrapping import REFUSED, TOO_LARGE, ours, wrapped
from services.runtime.settings import KafkaSettings

CALL_TIMEOUT_MS = 10_000
SESSION_TIMEOUT_MS = 10_000
# A member learns from its heartbeats that partitions are dealt anew; the others stand still until it has.
HEARTBEAT_MS = 500
JOIN_WAIT_MS = 3_000
METADATA_AGE_MS = 2_000
LEARNING_ATTEMPTS = 5
TRANSACTION_TIMEOUT_MS = 30_000
END_POLL_MS = 250
# Bounds what one poll may hold in memory, whatever the backlog.
FETCH_MAX_BYTES = 4 * 1024 * 1024
PARTITION_FETCH_BYTES = 512 * 1024
# Above this the library checks the size before it appends.
DIRECT_MAX_BYTES = 1024 * 1024
BATCH_BYTES = 128 * 1024
DEFAULT_BATCH_BYTES = 16 * 1024
BULK_LINGER_MS = 30
BULK_FETCH_BYTES = 1024 * 1024
BULK_WAIT_MS = 250
# The topic's own limit comes first, whatever the topic.
MAX_REQUEST_BYTES = STORED_MAX_BYTES + 64 * 1024

_STALE_MEMBER = (
    CommitFailedError,
    IllegalGenerationError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
_LOST = (ProducerFencedError, InvalidProducerEpochError, InvalidProducerIdMappingError, FencedInstanceIdError)

# The library reports every retry at ERROR; what matters is raised, wrapped and logged by the caller.
logging.getLogger("kafka").setLevel(logging.CRITICAL)


def _tp(partition: Partition) -> TopicPartition:
    return TopicPartition(partition.topic, partition.partition)


class _Listener(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """Runs the caller's callbacks beside the library's I/O thread, so that they may use the consumer themselves."""

    def __init__(self, net: Any, on_assigned: Rebalanced, on_revoked: Rebalanced) -> None:  # noqa: ANN401
        self._net = net
        self._assigned = on_assigned
        self._revoked = on_revoked
        self._idle = threading.Event()
        self._idle.set()
        self._error: BaseException | None = None

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        await self._call(self._assigned, assigned)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._call(self._revoked, revoked)

    def settle(self) -> None:
        """Wait for a callback that is still running, and raise what one has raised."""
        self._idle.wait()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _call(self, callback: Rebalanced, partitions: Collection[TopicPartition]) -> Future:
        done = Future()
        self._idle.clear()

        def work() -> None:
            try:
                callback([Partition(*tp) for tp in partitions])
            except BaseException as error:  # noqa: BLE001  (carried over to the polling thread, which raises it)
                self._error = error
            finally:
                self._idle.set()
                self._net.call_soon_threadsafe(lambda: done.success(None))

        threading.Thread(target=work, name="rebalance", daemon=True).start()
        return done


class KafkaPythonConsumer:
    """A consumer of kafka-python."""

    def __init__(self, client: KafkaConsumer, *, from_end: bool = False) -> None:
        self.client = client
        self._from_end = from_end
        self._listener: _Listener | None = None

    def subscribe(self, topics: Collection[str], on_assigned: Rebalanced, on_revoked: Rebalanced) -> None:
        """Join the group for these topics; called again, it replaces them."""

        def from_committed(partitions: Collection[Partition]) -> None:
            self._seek_committed(partitions)
            on_assigned(partitions)

        self._listener = _Listener(self.client._net, from_committed, on_revoked)
        self.client.subscribe(sorted(topics), listener=self._listener)
        with wrapped("subscribe"):
            # Metadata first: a leader gives out no partition that it doesn't know, and learning of one later is another
            # rebalance.
            self.client.topics()

    def _seek_committed(self, partitions: Collection[Partition]) -> None:
        """Start where the group has committed. The library would go on where this member last fetched."""
        held = self.committed(partitions)
        fresh = [partition for partition in partitions if partition not in held]
        starts = (self.end_offsets(fresh) if self._from_end else self.beginning_offsets(fresh)) if fresh else {}
        for partition in partitions:
            self.seek(partition, held[partition].offset if partition in held else starts[partition])

    def assign(self, partitions: Collection[Partition]) -> None:
        """Read exactly these partitions, outside any group's balance."""
        self.client.assign([_tp(p) for p in partitions])

    def poll(self, timeout_s: float, max_records: int) -> Mapping[Partition, Sequence[Record]]:
        """Return what has come, by partition; raises KafkaUnavailableError."""
        self._release_parked()
        with wrapped("poll"):
            self._await_join()
            found: dict[TopicPartition, list[Record]] = self.client.poll(
                timeout_ms=int(timeout_s * 1000), max_records=max_records
            )
        if self._listener is not None:
            self._listener.settle()
        return {Partition(*tp): records for tp, records in found.items()}

    def _await_join(self) -> None:
        """Wait for a join that is under way: the library throws one away that ends between two short polls."""
        coordinator = self.client._coordinator
        if self._listener is not None and coordinator.need_rejoin():
            coordinator.poll(timeout_ms=JOIN_WAIT_MS)

    def _release_parked(self) -> None:
        """Let records of a resumed partition out.

        The library parks what it has fetched of a paused partition, and takes it up again only when its slot for the
        partition being drained is None; a drained one left in that slot keeps the resumed partition silent for ever.
        """
        fetcher = self.client._fetcher
        drained = fetcher._next_partition_records
        if drained is not None and not drained:
            fetcher._next_partition_records = None

    def assignment(self) -> set[Partition]:
        """Return the partitions that are read now."""
        return {Partition(*tp) for tp in self.client.assignment()}

    def pause(self, partitions: Collection[Partition]) -> None:
        """Return no records of these until ``resume``."""
        self.client.pause(*(_tp(p) for p in partitions))

    def resume(self, partitions: Collection[Partition]) -> None:
        """Return records of these again."""
        self.client.resume(*(_tp(p) for p in partitions))

    def seek(self, partition: Partition, offset: int) -> None:
        """Read on from this offset."""
        self.client.seek(_tp(partition), offset)

    def position(self, partition: Partition) -> int:
        """Return the offset that will be read next."""
        with wrapped("position"):
            position: int | None = self.client.position(_tp(partition), timeout_ms=CALL_TIMEOUT_MS)
        if position is None:
            raise KafkaUnavailableError(f"position of {partition} is not known yet")
        return position

    def committed(self, partitions: Collection[Partition]) -> dict[Partition, Committed]:
        """Return what the group has committed; a partition without any is left out."""
        with wrapped("committed"):
            # All in one request; the public call asks for one partition at a time.
            held = self.client._coordinator.fetch_committed_offsets(
                [_tp(p) for p in partitions], timeout_ms=CALL_TIMEOUT_MS
            )
        return {Partition(*tp): Committed(at.offset, at.metadata or "") for tp, at in held.items() if at.offset >= 0}

    def commit(self, offsets: Mapping[Partition, Committed]) -> None:
        """Commit these positions; raises KafkaUnavailableError, also when they are another member's by now."""
        with wrapped("commit"):
            self.client.commit(
                {_tp(p): OffsetAndMetadata(c.offset, c.note, -1) for p, c in offsets.items()},
                timeout_ms=CALL_TIMEOUT_MS,
            )

    def beginning_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Return the first offset still kept of each."""
        return self._offsets("beginning_offsets", self.client.beginning_offsets, partitions)

    def offsets_at(self, partitions: Collection[Partition], timestamp_ms: int) -> dict[Partition, int]:
        """Return the first offset whose record is not older than this time; a partition without one is left out."""
        with wrapped("offsets_at"):
            found = self.client.offsets_for_times(
                {_tp(p): timestamp_ms for p in partitions}, timeout_ms=CALL_TIMEOUT_MS
            )
        return {Partition(*tp): at.offset for tp, at in found.items() if at is not None}

    def end_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Return the offset after the last committed record of each (read committed)."""
        return self._offsets("end_offsets", self.client.end_offsets, partitions)

    def _offsets(
        self, what: str, ask: Callable[..., dict[TopicPartition, int]], partitions: Collection[Partition]
    ) -> dict[Partition, int]:
        """Ask for offsets. Of a topic that is a moment old the library knows none, and answers with a KeyError."""
        wanted = [_tp(p) for p in partitions]
        for _ in range(LEARNING_ATTEMPTS):
            with wrapped(what):
                try:
                    found = ask(wanted, timeout_ms=CALL_TIMEOUT_MS)
                except KeyError:
                    self.client.topics()
                else:
                    return {Partition(*tp): offset for tp, offset in found.items()}
        raise KafkaUnavailableError(f"{what}: not every topic of {sorted({tp.topic for tp in wanted})} is known yet")

    def close(self) -> None:
        """Leave the group."""
        with wrapped("close"):
            self.client.close(autocommit=False, timeout_ms=CALL_TIMEOUT_MS)


class _KafkaPythonSent:
    __slots__ = ("_future",)

    def __init__(self, future: Any) -> None:  # noqa: ANN401  (the library is untyped)
        self._future = future

    def result(self, timeout_s: float) -> Placed:
        with wrapped("send"):
            meta = self._future.get(timeout=timeout_s)
        return Placed(meta.topic, meta.partition, meta.offset)

    def then(self, on_done: Callable[[Placed | None, Exception | None], None]) -> None:
        def failed(error: BaseException) -> None:
            told = ours("send", error)
            told.__cause__ = error
            on_done(None, told)

        self._future.add_callback(lambda meta: on_done(Placed(meta.topic, meta.partition, meta.offset), None))
        self._future.add_errback(failed)


class KafkaPythonProducer:
    """An idempotent producer of kafka-python.

    Records go to the library's accumulator directly where their topic is known: its ``send`` checks and measures every
    header anew and costs twice as much, and a router sends several records for each that it reads.
    """

    def __init__(self, client: KafkaProducer) -> None:
        self.client = client
        # Once the broker has refused one record, the library by itself would never send again: one event would silence
        # the gateway. A new epoch fails that record, and what is in flight at that moment, which is sent again.
        state = client._transaction_manager
        if not state.is_transactional():
            state._NEEDS_EPOCH_BUMP_ERRORS = state._NEEDS_EPOCH_BUMP_ERRORS | REFUSED
        self._known: dict[tuple[str, int], TopicPartition] = {}

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
        """Append one record; its outcome comes with the returned object."""
        place = self._place(topic, partition, key)
        listed = headers if isinstance(headers, list) else list(headers)
        try:
            if place is None or len(value or b"") > DIRECT_MAX_BYTES:
                return _KafkaPythonSent(
                    self.client.send(
                        topic, key=key, value=value, headers=listed, partition=partition, timestamp_ms=timestamp_ms
                    )
                )
            self._before_append(place)
            future, full, new, _ = self.client._accumulator.append(place, timestamp_ms, key, value, listed)
        except (KafkaError, OSError) as error:
            raise self._send_error(f"send to {topic}", error) from error
        if full or new:
            self.client._sender.wakeup()
        return _KafkaPythonSent(future)

    @staticmethod
    def _send_error(what: str, error: BaseException) -> HongyanError:
        return ours(what, error)

    def _before_append(self, place: TopicPartition) -> None:
        """Nothing to do outside a transaction."""

    def _place(self, topic: str, partition: int | None, key: bytes | None) -> TopicPartition | None:
        """Return where to append directly; None where the library must choose or ask for metadata first."""
        if partition is None:
            partitions = self.client._metadata.partitions_for_topic(topic)
            if key is None or not partitions:
                return None
            # The default partitioner of every stock client: murmur2 of the key.
            partition = (murmur2(key) & 0x7FFFFFFF) % len(partitions)
        place = self._known.get((topic, partition))
        if place is None and partition in (self.client._metadata.partitions_for_topic(topic) or ()):
            place = self._known[topic, partition] = TopicPartition(topic, partition)
        return place

    def ready(self, topic: str) -> bool:
        """Tell whether a send to this topic waits for nothing: its partitions are known, and memory is not bounded."""
        return self.client._metadata.partitions_for_topic(topic) is not None

    def flush(self, timeout_s: float) -> None:
        """Wait until everything sent is acknowledged or has failed; raises KafkaUnavailableError at the time limit."""
        with wrapped("flush"):
            self.client.flush(timeout=timeout_s)

    def close(self) -> None:
        """Give up what is not acknowledged, and close."""
        with wrapped("close"):
            self.client.close(timeout=2)


class KafkaPythonTransactionalProducer(KafkaPythonProducer):
    """A transactional producer of kafka-python."""

    def __init__(self, client: KafkaProducer) -> None:
        super().__init__(client)
        self._open = False
        self._added: set[TopicPartition] = set()

    def begin(self) -> None:
        """Open a transaction."""
        with self._verdict():
            self.client.begin_transaction()
        self._open = True
        self._added.clear()

    @staticmethod
    def _send_error(what: str, error: BaseException) -> HongyanError:
        kind = RecordTooLargeError if isinstance(error, TOO_LARGE) else ProducerLostError
        return kind(f"{what}: {type(error).__name__} {error}")

    def _before_append(self, place: TopicPartition) -> None:
        if place not in self._added:
            self.client._transaction_manager.maybe_add_partition_to_transaction(place)
            self._added.add(place)

    def send_offsets(self, offsets: Mapping[Partition, int], consumer: Consumer) -> None:
        """Add the consumer's positions to the transaction, in its group and under its membership."""
        if not isinstance(consumer, KafkaPythonConsumer):
            raise TypeError("the consumer is another adapter's")
        with self._verdict():
            self.client.send_offsets_to_transaction(
                {_tp(p): OffsetAndMetadata(offset, "", -1) for p, offset in offsets.items()},
                consumer.client.group_metadata(),
            )

    def commit(self) -> None:
        """Make it all visible; raises TransactionFailedError or ProducerLostError."""
        with self._verdict():
            self._end(self.client._transaction_manager.begin_commit)
        self._open = False

    def abort(self) -> None:
        """Make nothing of it visible; raises ProducerLostError."""
        if not self._open:
            return
        self._open = False
        try:
            self._end(self.client._transaction_manager.begin_abort)
        except (KafkaError, AssertionError) as error:
            raise ProducerLostError(f"abort: {type(error).__name__} {error}") from error

    def _end(self, begin: Callable[[], Any]) -> None:
        """End the transaction as the library does, but not for ever: its calls have no limit, and a broker that was
        killed meanwhile may never answer. By then the broker has aborted what it knows to be open.
        """
        result = begin()
        self.client._sender.wakeup()
        deadline = time.monotonic() + TRANSACTION_TIMEOUT_MS / 1000
        while not result.wait(END_POLL_MS):
            error = self.client._transaction_manager.last_error
            if isinstance(error, TOO_LARGE):
                raise error  # the library waits for what it will never send
            if time.monotonic() > deadline:
                raise KafkaTimeoutError("the transaction did not end in time")

    def learn(self, topics: Iterable[str]) -> None:
        """Fetch the metadata of these topics at once, so that no first send to one waits."""
        metadata = self.client._metadata
        wanted = [topic for topic in topics if metadata.partitions_for_topic(topic) is None]
        with wrapped("learn"):
            if wanted:
                metadata.set_topics({*metadata._topics, *wanted})
            for topic in wanted:
                self.client.partitions_for(topic)

    @contextmanager
    def _verdict(self) -> Iterator[None]:
        try:
            yield
        except _LOST as error:
            raise ProducerLostError(f"{type(error).__name__} {error}") from error
        except _STALE_MEMBER as error:
            raise TransactionFailedError(f"{type(error).__name__} {error}") from error
        except (KafkaError, AssertionError, OSError) as error:
            refused = isinstance(self.client._transaction_manager.last_error, TOO_LARGE)
            kind = RecordTooLargeError if refused else ProducerLostError
            raise kind(f"{type(error).__name__} {error}") from error


class KafkaPython:
    """Makes kafka-python clients with the settings that exactness needs."""

    def __init__(self, settings: KafkaSettings) -> None:
        if not settings.bootstrap_servers:
            raise KafkaUnavailableError("kafka.bootstrap_servers is not set; start one with `hongyan up`")
        self._replication_factor = settings.replication_factor
        self._admin: dict[str, Any] = {
            "bootstrap_servers": settings.bootstrap_servers.split(","),
            "reconnect_backoff_ms": 50,
            "reconnect_backoff_max_ms": 1000,
            "bootstrap_timeout_ms": 5000,
            **_security(settings),
        }
        self._base = self._admin | {"metrics_enabled": False}

    def consumer(
        self,
        group: str | None,
        *,
        client_id: str = "hongyan",
        instance: str | None = None,
        from_end: bool = False,
        bulk: bool = False,
    ) -> Consumer:
        """Make a consumer; ``instance`` makes membership static: a restarted process gets its partitions back."""
        with wrapped("connect"):
            return KafkaPythonConsumer(
                KafkaConsumer(
                    group_id=group,
                    client_id=client_id,
                    group_instance_id=instance if group else None,
                    enable_auto_commit=False,
                    auto_offset_reset="latest" if from_end else "earliest",
                    isolation_level="read_committed",
                    # Range gives partition p of every event topic to one member: the router's state relies on it.
                    partition_assignment_strategy=(RangePartitionAssignor,),
                    session_timeout_ms=SESSION_TIMEOUT_MS,
                    heartbeat_interval_ms=HEARTBEAT_MS,
                    fetch_min_bytes=BULK_FETCH_BYTES if bulk else 1,
                    fetch_max_wait_ms=BULK_WAIT_MS if bulk else 500,
                    fetch_max_bytes=FETCH_MAX_BYTES,
                    max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
                    retry_backoff_ms=20,
                    # A topic that is a moment old may be missing from the metadata that partitions are given out by.
                    metadata_max_age_ms=METADATA_AGE_MS,
                    **self._base,
                ),
                from_end=from_end,
            )

    def producer(
        self, *, client_id: str = "hongyan", acknowledge_timeout_s: float = 30.0, bulk: bool = False
    ) -> KafkaPythonProducer:
        """Make an idempotent producer that gives a record up after the time-out (seconds)."""
        timeout_ms = int(acknowledge_timeout_s * 1000)
        with wrapped("connect"):
            return KafkaPythonProducer(
                KafkaProducer(
                    client_id=client_id,
                    delivery_timeout_ms=timeout_ms,
                    request_timeout_ms=max(1, timeout_ms - BULK_LINGER_MS - 1),
                    max_block_ms=timeout_ms,
                    linger_ms=BULK_LINGER_MS if bulk else 0,
                    batch_size=BATCH_BYTES if bulk else DEFAULT_BATCH_BYTES,
                    retry_backoff_ms=20,
                    max_request_size=MAX_REQUEST_BYTES,
                    **self._base,
                )
            )

    def transactional_producer(self, transactional_id: str) -> KafkaPythonTransactionalProducer:
        """Make a transactional producer and end what its predecessor left open."""
        with wrapped("connect"):
            client = KafkaProducer(
                client_id=transactional_id,
                transactional_id=transactional_id,
                transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
                max_block_ms=CALL_TIMEOUT_MS,
                linger_ms=0,
                retry_backoff_ms=5,
                batch_size=BATCH_BYTES,
                max_request_size=MAX_REQUEST_BYTES,
                **self._base,
            )
            try:
                client.init_transactions()
            except KafkaTimeoutError:
                client.close(timeout=0)
                raise
        return KafkaPythonTransactionalProducer(client)

    def admin(self) -> KafkaPythonAdmin:
        """Make an admin client."""
        with wrapped("connect"):
            return KafkaPythonAdmin(KafkaAdminClient(**self._admin), self._replication_factor)


def connect(settings: KafkaSettings) -> Kafka:
    """Return the factory of clients for the cluster that the settings name; nothing is connected yet."""
    return KafkaPython(settings)


def _security(settings: KafkaSettings) -> dict[str, Any]:
    """Return how to log in, where the cluster asks for it."""
    if settings.username is None or settings.password is None:
        return {"security_protocol": settings.security_protocol, "ssl_cafile": settings.ca_file}
    return {
        "security_protocol": settings.security_protocol,
        "ssl_cafile": settings.ca_file,
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.username,
        "sasl_plain_password": settings.password.get_secret_value(),
    }
