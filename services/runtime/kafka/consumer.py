"""The consumer of the kafka-python adapter (see :mod:`services.runtime.kafka.port` for the contract)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.errors import CommitFailedError, KafkaError, UnknownTopicOrPartitionError
from kafka.future import Future
from kafka.structs import OffsetAndMetadata
from kafka.util import Timer

from services.runtime.errors import KafkaUnavailableError
from services.runtime.kafka.health import CLIENTS
from services.runtime.kafka.port import Committed, Partition, Rebalanced, Record
from services.runtime.kafka.wrapping import wrapped

CALL_TIMEOUT_MS = 10_000
JOIN_WAIT_MS = 3_000
LEARNING_ATTEMPTS = 5
COMMIT_AGAIN_S = 0.02

log = structlog.get_logger()


def topic_partition(partition: Partition) -> TopicPartition:
    return TopicPartition(partition.topic, partition.partition)


class _Listener(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """Runs the caller's callbacks beside the library's I/O thread, so that they may use the consumer themselves."""

    def __init__(self, net: Any, on_assigned: Rebalanced, on_revoked: Rebalanced) -> None:  # noqa: ANN401
        self._net = net
        self._assigned = on_assigned
        self._revoked = on_revoked
        self._idle = threading.Event()
        self._idle.set()
        self.error: BaseException | None = None
        """What a callback has raised since it was asked last."""

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        await self._call(self._assigned, assigned)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._call(self._revoked, revoked)

    def settle(self) -> None:
        """Wait for a callback that is still running, and raise what one has raised."""
        self._idle.wait()
        error, self.error = self.error, None
        if error is not None:
            raise error

    def _call(self, callback: Rebalanced, partitions: Collection[TopicPartition]) -> Future:
        done = Future()
        self._idle.clear()

        def work() -> None:
            try:
                callback([Partition(*tp) for tp in partitions])
            except BaseException as error:  # noqa: BLE001  (carried over to the polling thread, which raises it)
                self.error = error
            finally:
                self._idle.set()
                self._net.call_soon_threadsafe(lambda: done.success(None))

        threading.Thread(target=work, name="rebalance", daemon=True).start()
        return done


class KafkaPythonConsumer:
    """A consumer of kafka-python."""

    def __init__(self, client: KafkaConsumer, *, from_end: bool = False) -> None:
        self.client = client
        self._tally = CLIENTS.consumer(client.config["client_id"], self)
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
        self.client.assign([topic_partition(p) for p in partitions])

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
        self._tally.polled(sum(map(len, found.values())))
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
        self.client.pause(*(topic_partition(p) for p in partitions))

    def resume(self, partitions: Collection[Partition]) -> None:
        """Return records of these again."""
        self.client.resume(*(topic_partition(p) for p in partitions))

    def seek(self, partition: Partition, offset: int) -> None:
        """Read on from this offset."""
        self.client.seek(topic_partition(partition), offset)

    def position(self, partition: Partition) -> int:
        """Return the offset that will be read next."""
        with wrapped("position"):
            position: int | None = self.client.position(topic_partition(partition), timeout_ms=CALL_TIMEOUT_MS)
        if position is None:
            raise KafkaUnavailableError(f"position of {partition} is not known yet")
        return position

    def positions(self) -> dict[Partition, int]:
        """Return the positions that are known; the library looks at every partition each time it is asked for one."""
        held = dict(self.client._subscription.assignment)
        return {Partition(*tp): int(state.position.offset) for tp, state in held.items() if state.position is not None}

    def committed(self, partitions: Collection[Partition]) -> dict[Partition, Committed]:
        """Return what the group has committed; a partition without any is left out."""
        with wrapped("committed"):
            # All in one request; the public call asks for one partition at a time.
            held = self.client._coordinator.fetch_committed_offsets(
                [topic_partition(p) for p in partitions], timeout_ms=CALL_TIMEOUT_MS
            )
        return {Partition(*tp): Committed(at.offset, at.metadata or "") for tp, at in held.items() if at.offset >= 0}

    def commit(self, offsets: Mapping[Partition, Committed]) -> None:
        """Commit these positions; raises KafkaUnavailableError, also when they are another member's by now.

        Raises UnknownTopicError at once where a topic is not known: it has the others'.
        """
        wanted = {topic_partition(p): OffsetAndMetadata(c.offset, c.note, -1) for p, c in offsets.items()}
        with wrapped("commit"):
            self.client._net.run(self._commit, wanted)

    async def _commit(self, wanted: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Commit. The library's own tries a topic that there is not again until the time is over.

        And it tries again as a member of whatever generation it has by then: where another had the partition meanwhile,
        that one's newer position would be written over.
        """
        coordinator, manager, timer = self.client._coordinator, self.client._manager, Timer(CALL_TIMEOUT_MS)
        begun = coordinator._generation
        while True:
            await coordinator.ensure_coordinator_ready_async(timeout_ms=timer.timeout_ms)
            if coordinator._generation != begun:
                raise CommitFailedError("the partitions were dealt anew meanwhile")
            answer = manager.call_soon(coordinator._send_offset_commit_request, wanted)
            try:
                await manager.wait_for(answer, timer.timeout_ms)
            except UnknownTopicOrPartitionError:
                raise
            except KafkaError as error:
                if not error.retriable:
                    raise
            else:
                return
            await self.client._net.sleep(COMMIT_AGAIN_S)
            timer.maybe_raise()

    def beginning_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Return the first offset still kept of each."""
        return self._offsets("beginning_offsets", self.client.beginning_offsets, partitions)

    def offsets_at(self, partitions: Collection[Partition], timestamp_ms: int) -> dict[Partition, int]:
        """Return the first offset whose record is not older than this time; a partition without one is left out."""
        with wrapped("offsets_at"):
            found = self.client.offsets_for_times(
                {topic_partition(p): timestamp_ms for p in partitions}, timeout_ms=CALL_TIMEOUT_MS
            )
        return {Partition(*tp): at.offset for tp, at in found.items() if at is not None}

    def end_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Return the offset after the last committed record of each (read committed)."""
        return self._offsets("end_offsets", self.client.end_offsets, partitions)

    def _offsets(
        self, what: str, ask: Callable[..., dict[TopicPartition, int]], partitions: Collection[Partition]
    ) -> dict[Partition, int]:
        """Ask for offsets. Of a topic that is a moment old the library knows none, and answers with a KeyError."""
        wanted = [topic_partition(p) for p in partitions]
        for _ in range(LEARNING_ATTEMPTS):
            with wrapped(what):
                try:
                    found = ask(wanted, timeout_ms=CALL_TIMEOUT_MS)
                except KeyError:
                    self.client.topics()
                else:
                    return {Partition(*tp): offset for tp, offset in found.items()}
        raise KafkaUnavailableError(f"{what}: not every topic of {sorted({tp.topic for tp in wanted})} is known yet")

    def topic_ids(self, topics: Collection[str]) -> dict[str, str]:
        """Return the ids of those topics that are known, as of the newest metadata."""
        found = {topic: self.client._manager.cluster.topic_id(topic) for topic in topics}
        return {topic: str(one) for topic, one in found.items() if one is not None}

    def reads(self) -> int:
        """Return how many partitions it reads."""
        return len(self.client._subscription.assignment)

    def close(self) -> None:
        """Leave the group."""
        CLIENTS.closed(self)
        with wrapped("close"):
            self.client.close(autocommit=False, timeout_ms=CALL_TIMEOUT_MS)
        error = self._listener.error if self._listener is not None else None
        if error is not None:  # nobody polls any more, who would raise it
            log.error("giving_up_failed", error=repr(error), exc_info=error)
