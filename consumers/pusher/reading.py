"""The pusher's two consumers: a member of the group, which is given shares and commits, and a reader of their feeds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing

import structlog

from consumers.pusher.placing import NONE, Bounds
from schemas.topics import Topics
from services.runtime.clock import Clock
from services.runtime.errors import OffTheLogError, UnavailableError
from services.runtime.kafka.port import Committed, Consumer, Kafka, Partition, Record

# While shares are dealt anew nobody can commit; longer than this it is an outage.
COMMIT_PATIENCE_S = 20.0
# A broker may not know of a topic yet, or of its making: only what is missing for so long was deleted.
MISSING_S = 2.0
# How often it is looked whether a feed was made anew, by what the reader's metadata says.
LOOK_S = 1.0

log = structlog.get_logger()


class Reading:
    """Reads the feeds of this process's shares. Everything here belongs to the Kafka thread."""

    def __init__(self, kafka: Kafka, topics: Topics, instance: str, clock: Clock) -> None:
        self._topics = topics
        self._clock = clock
        with ExitStack() as opened:
            # One for all questions: to connect takes longer than to ask, and the lines wait for it.
            self._admin = opened.enter_context(closing(kafka.admin()))
            self._admin.ensure_topics([topics.shares_spec(), topics.alerts_spec()])
            # Nothing is passed over or read again in silence: a position that is not on the log is an error.
            self._reader: Consumer = kafka.consumer(None, client_id=f"{instance}-feeds", exact=True)
            opened.callback(self._reader.close)
            self._member = kafka.consumer(topics.group("pusher"), client_id=instance, instance=instance)
            self._opened = opened.pop_all()
        self._paused: set[Partition] = set()
        self._read: set[Partition] = set()
        self._deleted: set[Partition] = set()
        self._untold: set[Partition] = set()
        self._missing: dict[Partition, float] = {}
        self._ids: dict[str, str] = {}
        self._look_at = 0.0
        self.off_the_log = False
        """Whether a position was found off its log since the last ``read``."""
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

        A feed may be a moment old, and not known to every broker.
        """
        self._deleted.clear()  # one may have been made anew
        return dict.fromkeys(feeds, NONE) | (self._member.committed(feeds) if feeds else {})

    def own_cursors(self, feeds: Collection[Partition]) -> dict[Partition, Committed]:
        """Return what the agencies' own groups have committed: where another channel, or somebody, has moved them.

        To be asked only for what is begun, and may have been read by another channel.
        """
        if not feeds:
            return {}
        groups = {self._topics.agency_group(self._topics.agency_of(p.topic)): p for p in feeds}
        held = self._admin.groups_offsets(list(groups))
        return {p: held.get(group, {}).get(p, NONE) for group, p in groups.items()}

    def bounds(self, feeds: Collection[Partition]) -> dict[Partition, Bounds]:
        """Return what the logs of these feeds have; one that there is not, or not yet, is left out."""
        if not feeds:
            return {}
        existing = self._admin.list_topics()
        there = [feed for feed in feeds if feed.topic in existing]
        ends = self._admin.log_ends(there)
        firsts = self._reader.beginning_offsets(there) if there else {}
        return {feed: Bounds(firsts[feed], ends[feed]) for feed in there}

    def look_due(self) -> bool:
        """Tell, now and then, that it is time to ask whether feeds were made anew."""
        now = self._clock.monotonic()
        due = now >= self._look_at
        if due:
            self._look_at = now + LOOK_S
        return due

    def made_anew(self) -> set[Partition]:
        """Return the feeds that were deleted and made anew since they were first read, or since they were told last."""
        ids = self._reader.topic_ids({feed.topic for feed in self._read})
        anew = {topic for topic, found in ids.items() if self._ids.get(topic, found) != found}
        self._ids.update(ids)
        return {feed for feed in self._read if feed.topic in anew}

    def read(self, positions: Mapping[Partition, int]) -> None:
        """Read exactly these feeds, from these positions."""
        held = self._reader.positions()
        self._reader.assign(list(positions))
        for partition, position in positions.items():
            # Nothing else is asked before each has its place: one position that is not known fails every question.
            if partition not in self._read or held.get(partition) != position:
                self._reader.seek(partition, position)
        fresh = {feed.topic for feed in positions if feed not in self._read}
        self._read = set(positions)
        kept = {feed.topic for feed in self._read} - fresh
        self._ids = {topic: found for topic, found in self._ids.items() if topic in kept}
        self._paused &= self._read
        self._reader.resume(self._read - self._paused)
        self.changed = self.off_the_log = False
        self._look_at = 0.0  # to know which making of each feed this is

    def poll_group(self, timeout_s: float) -> None:
        """Keep the membership alive; shares are dealt anew in here. Raises UnavailableError."""
        self._member.poll(timeout_s, 1)

    def poll_feeds(self, timeout_s: float, max_records: int) -> Mapping[Partition, Sequence[Record]]:
        """Return what has come; raises UnavailableError."""
        try:
            return self._reader.poll(timeout_s, max_records) if self._read else {}
        except OffTheLogError as error:
            log.warning("position_off_the_log", error=str(error))
            self.off_the_log = True
            return {}

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
        """Find feeds among these that are there no more; tell whether there are any.

        One look is not enough: a broker's metadata may be old.
        """
        existing = self._admin.list_topics()
        now = self._clock.monotonic()
        self._missing = {p: self._missing.get(p, now) for p in feeds if p.topic not in existing}
        deleted = {partition for partition, since in self._missing.items() if now - since >= MISSING_S}
        self._deleted |= deleted
        for partition in deleted:
            log.error("feed_deleted", feed=partition.topic)
            self._untold.add(partition)
        return bool(deleted)

    def found_deleted(self) -> set[Partition]:
        """Return the feeds that were found deleted since it was asked last."""
        found, self._untold = self._untold, set()
        return found

    def close(self) -> None:
        """Leave the group and close both."""
        self._opened.callback(self._member.close)
        self._opened.close()
