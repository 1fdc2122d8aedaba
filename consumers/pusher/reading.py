"""The pusher's two consumers: a member of the group, which is given shares and commits, and a reader of their feeds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import structlog

from schemas.topics import Topics
from services.runtime.clock import Clock
from services.runtime.errors import UnavailableError
from services.runtime.kafka.port import Committed, Consumer, Kafka, Partition, Record

# While shares are dealt anew nobody can commit; longer than this it is an outage.
COMMIT_PATIENCE_S = 20.0

log = structlog.get_logger()


class Reading:
    """Reads the feeds of this process's shares. Everything here belongs to the Kafka thread."""

    def __init__(self, kafka: Kafka, topics: Topics, instance: str, clock: Clock) -> None:
        self._kafka = kafka
        self._topics = topics
        self._clock = clock
        admin = kafka.admin()
        try:
            admin.ensure_topics([topics.shares_spec(), topics.alerts_spec()])
        finally:
            admin.close()
        self._reader: Consumer = kafka.consumer(None, client_id=f"{instance}-feeds")
        try:
            self._member = kafka.consumer(topics.group("pusher"), client_id=instance, instance=instance)
        except UnavailableError:
            self._reader.close()
            raise
        self._paused: set[Partition] = set()
        self._read: set[Partition] = set()
        self._deleted: set[Partition] = set()
        self._failing_since: float | None = None
        self.changed = True
        """Whether the shares were dealt anew since the last ``read``."""

    def join(self, on_dealt: Callable[[], None], on_dealing: Callable[[], None]) -> None:
        """Join the group; called back, while it is polled, before shares are dealt anew and after."""

        def dealt(shares: Collection[Partition]) -> None:
            self._member.pause(shares)
            self.changed = True
            on_dealt()

        self._member.subscribe([self._topics.control_shares], dealt, lambda _: on_dealing())

    def shares(self) -> set[int]:
        """Return the shares of this process."""
        return {partition.partition for partition in self._member.assignment()}

    def starts(self, feeds: Collection[Partition]) -> dict[Partition, Committed]:
        """Return where each feed is to be read from, with its note: its committed cursor, or its beginning.

        A feed may be a moment old, and not known to every broker; below its beginning, the reader begins there.
        """
        self._deleted.clear()  # one may have been made anew
        return dict.fromkeys(feeds, Committed(0)) | (self._member.committed(feeds) if feeds else {})

    def moved(self, starts: Mapping[Partition, Committed]) -> dict[Partition, Committed]:
        """Return those of the feeds whose cursor another channel has moved beyond their start.

        Asks for their agencies' groups: only for what is begun, and may have been read by another channel.
        """
        if not starts:
            return {}
        groups = {self._topics.agency_group(self._topics.agency_of(p.topic)): p for p in starts}
        admin = self._kafka.admin()
        try:
            held = admin.groups_offsets(list(groups))
        finally:
            admin.close()
        found = {p: held.get(group, {}).get(p, Committed(0)).offset for group, p in groups.items()}
        return {p: Committed(cursor) for p, cursor in found.items() if cursor > starts[p].offset}

    def read(self, positions: Mapping[Partition, int]) -> None:
        """Read exactly these feeds, from these positions."""
        self._reader.assign(list(positions))
        for partition, position in positions.items():
            if partition not in self._read or self._reader.position(partition) != position:
                self._reader.seek(partition, position)
        self._read = set(positions)
        self._paused &= self._read
        self._reader.resume(self._read - self._paused)
        self.changed = False

    def poll_group(self, timeout_s: float) -> None:
        """Keep the membership alive; shares are dealt anew in here. Raises UnavailableError."""
        self._member.poll(timeout_s, 1)

    def poll_feeds(self, timeout_s: float, max_records: int) -> Mapping[Partition, Sequence[Record]]:
        """Return what has come; raises UnavailableError."""
        return self._reader.poll(timeout_s, max_records) if self._read else {}

    def pause_only(self, full: Collection[Partition]) -> None:
        """Read on where there is room and nowhere else: one agency's full window is nobody else's delay."""
        wanted = set(full) & self._read
        if wanted - self._paused:
            self._reader.pause(wanted - self._paused)
        if self._paused - wanted:
            self._reader.resume(self._paused - wanted)
        self._paused = wanted

    def commit(self, cursors: Mapping[Partition, Committed]) -> bool:
        """Commit cursors; False while the group refuses (shares are being dealt anew, or are another's by now).

        Raises UnavailableError when it is refused for long. A feed that somebody has deleted has no cursor to keep: it
        must not keep everybody else's from being committed.
        """
        kept = {partition: cursor for partition, cursor in cursors.items() if partition not in self._deleted}
        try:
            if kept:
                self._member.commit(kept)
        except UnavailableError as error:
            if self._note_deleted(kept):
                return False
            now = self._clock.monotonic()
            self._failing_since = self._failing_since or now
            if now - self._failing_since > COMMIT_PATIENCE_S:
                raise
            log.debug("cursors_uncommitted", error=str(error))
            return False
        self._failing_since = None
        return True

    def _note_deleted(self, feeds: Collection[Partition]) -> bool:
        """Find feeds among these that are there no more; tell whether there are any."""
        admin = self._kafka.admin()
        try:
            existing = admin.list_topics()
        finally:
            admin.close()
        deleted = {partition for partition in feeds if partition.topic not in existing}
        self._deleted |= deleted
        for partition in deleted:
            log.error("feed_deleted", feed=partition.topic)
        return bool(deleted)

    def close(self) -> None:
        """Leave the group and close both."""
        self._reader.close()
        self._member.close()
