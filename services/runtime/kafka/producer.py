"""The producers of the kafka-python adapter (see :mod:`services.runtime.kafka.port` for the contract)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kafka import KafkaProducer, TopicPartition
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
from kafka.producer.transaction_manager import TransactionState
from kafka.structs import OffsetAndMetadata

from services.runtime.errors import (
    HongyanError,
    ProducerLostError,
    RecordTooLargeError,
    TransactionFailedError,
)
from services.runtime.kafka.consumer import KafkaPythonConsumer, topic_partition
from services.runtime.kafka.health import CLIENTS
from services.runtime.kafka.partitioning import partition_of
from services.runtime.kafka.port import Consumer, HeaderList, Partition, Placed, Sent
from services.runtime.kafka.wrapping import REFUSED, TOO_LARGE, ours, wrapped

TRANSACTION_TIMEOUT_MS = 30_000
END_POLL_MS = 250
CLOSE_S = 2.0
# Above this the library checks the size before it appends.
DIRECT_MAX_BYTES = 1024 * 1024

_STALE_MEMBER = (
    CommitFailedError,
    IllegalGenerationError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
_LOST = (ProducerFencedError, InvalidProducerEpochError, InvalidProducerIdMappingError, FencedInstanceIdError)


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

    _sends_at_once = True

    def __init__(self, client: KafkaProducer) -> None:
        self.client = client
        self._tally = CLIENTS.producer(client.config["client_id"], self)
        # Once the broker has refused one record, the library by itself would never send again: one event would silence
        # the gateway. A new epoch fails that record, and what is in flight at that moment, which is sent again.
        state = client._transaction_manager
        if not state.is_transactional():
            state._NEEDS_EPOCH_BUMP_ERRORS = state._NEEDS_EPOCH_BUMP_ERRORS | REFUSED
            _ask_again_for_an_id(state)
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
        self._tally.records += 1
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
        if full or (new and self._sends_at_once):
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
            partition = partition_of(key, len(partitions))
        place = self._known.get((topic, partition))
        if place is None and partition in (self.client._metadata.partitions_for_topic(topic) or ()):
            place = self._known[topic, partition] = TopicPartition(topic, partition)
        return place

    def ready(self, topic: str) -> bool:
        """Tell whether a send to this topic waits for nothing: its partitions are known, and memory is not bounded."""
        if self.client._metadata.partitions_for_topic(topic) is not None:
            return True
        self.client._sender.add_topic(topic)
        self.client._metadata.request_update()
        self.client._sender.wakeup()
        return False

    def flush(self, timeout_s: float) -> None:
        """Wait until everything sent is acknowledged or has failed; raises KafkaUnavailableError at the time limit."""
        with wrapped("flush"):
            self.client.flush(timeout=timeout_s)

    def close(self) -> None:
        """Give up what is not acknowledged, and close."""
        CLIENTS.closed(self)
        with wrapped("close"):
            try:
                self.client.close(timeout=CLOSE_S)
            except KafkaTimeoutError:
                # The library stops half-way here: its thread would live on, and send in its own time.
                self.client._sender.force_close()
                self.client._sender.join(CLOSE_S)


def _ask_again_for_an_id(state: Any) -> None:  # noqa: ANN401  (the library is untyped)
    """Have a producer that gave its id up ask for another.

    It does so once a record that it had sent was not acknowledged in time. The library forgets the id then, asks for
    none as long as its state is READY, and sends nothing any more, for ever.
    """
    reset = state.reset_producer_id

    def reset_and_begin_anew() -> None:
        with state._lock:
            reset()
            if state._current_state == TransactionState.READY:
                state._current_state = TransactionState.UNINITIALIZED

    state.reset_producer_id = reset_and_begin_anew


class KafkaPythonTransactionalProducer(KafkaPythonProducer):
    """A transactional producer of kafka-python.

    What is sent goes out once a batch is full, or when the offsets are sent: woken by its first record, the library
    would add that one's partition to the transaction alone, and the others with requests of their own.
    """

    _sends_at_once = False

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
                {topic_partition(p): OffsetAndMetadata(offset, "", -1) for p, offset in offsets.items()},
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
            CLIENTS.failed("transaction")
            raise ProducerLostError(f"{type(error).__name__} {error}") from error
        except _STALE_MEMBER as error:
            CLIENTS.failed("transaction")
            raise TransactionFailedError(f"{type(error).__name__} {error}") from error
        except (KafkaError, AssertionError, OSError) as error:
            CLIENTS.failed("transaction")
            refused = isinstance(self.client._transaction_manager.last_error, TOO_LARGE)
            kind = RecordTooLargeError if refused else ProducerLostError
            raise kind(f"{type(error).__name__} {error}") from error
