"""The pusher's two consumers: a member of the group, which is given shares and commits, and a reader of their feeds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent import futures
from contextlib import ExitStack, closing
from dataclasses import dataclass

import structlog

from consumers.pusher.placing import NONE, Bounds
from consumers.pusher.waiting import CALL_S, Leaving, members
from schemas.topics import Topics
from services.runtime.clock import Clock
from services.runtime.errors import OffTheLogError, UnavailableError, UnknownTopicError
from services.runtime.kafka.port import Committed, Consumer, Kafka, Partition, Record

# While shares are dealt anew nobody can commit; longer than this it is an outage.
COMMIT_PATIENCE_S = 20.0
# A broker may not know of a topic yet, or of its making: only what is missing for so long was deleted.
MISSING_S = 2.0
# How often it is looked whether a feed was deleted or made anew, by what the reader's metadata says.
LOOK_S = 1.0
# Where the reader's metadata does not know a feed, yet or any more, it is looked again sooner.
LOOK_AGAIN_S = 0.1

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Looked:
    """The feeds that were made anew, deleted, or are there again, since it was looked last."""

    anew: set[Partition]
    deleted: set[Partition]
    back: set[Partition]


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A commit: the cursors that were to be committed, those of feeds that there are, and its end."""

    cursors: Mapping[Partition, Committed]
    kept: Mapping[Partition, Committed]
    answer: futures.Future[None]


class Reading:
    """Reads the feeds of this process's shares. Everything here belongs to the Kafka thread; commits run beside it."""

    def __init__(self, kafka: Kafka, topics: Topics, instance: str, clock: Clock) -> None:
        self._topics = topics
        self._clock = clock
        with ExitStack() as opened:
            # One for all questions: to connect takes longer than to ask, and the lines wait for it.
            self._admin = opened.enter_context(closing(kafka.admin()))
            self._admin.ensure_topics([topics.shares_spec(), topics.alerts_spec()])
            self._asker = opened.enter_context(closing(kafka.admin(timeout_s=CALL_S)))
            # Nothing is passed over or read again in silence: a position that is not on the log is an error.
            self._reader: Consumer = kafka.consumer(None, client_id=f"{instance}-feeds", exact=True)
            opened.callback(self._reader.close)
            self._member = kafka.consumer(topics.group("pusher"), client_id=instance, instance=instance)
            self._opened = opened.pop_all()
        self._leaving = Leaving(kafka, topics)
        self._opened.callback(self._leaving.close)
        self._paused: set[Partition] = set()
        self._read: set[Partition] = set()
        self._missing: dict[Partition, float] = {}
        self._deleted: set[Partition] = set()
        self._ids: dict[str, str] = {}
        self._look_at = 0.0
        self.off_the_log = False
        """Whether a position was found off its log since the last ``read``."""
        self._failing_since: float | None = None
        self._committer = futures.ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._under_way: _UnderWay | None = None
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
        self._missing = {feed: since for feed, since in self._missing.items() if feed in feeds}
        self._deleted &= self._missing.keys()
        return dict.fromkeys(feeds, NONE) | (self._member.committed(feeds) if feeds else {})

    def own_cursors(self, feeds: Collection[Partition]) -> dict[Partition, Committed]:
        """Return what the agencies' own groups have committed: where another channel, or somebody, has moved them.

        To be asked only for what is begun, and may have been read by another channel.
        """
        if not feeds:
            return {}
        groups = {self._topics.agency_group(self._topics.agency_of(p.topic)): p for p in feeds}
        held = self._asker.groups_offsets(list(groups))
        return {p: held.get(group, {}).get(p, NONE) for group, p in groups.items()}

    def members(self, feeds: Collection[Partition]) -> dict[Partition, int]:
        """Return how many clients of its own each feed's agency has in its group; raises UnavailableError."""
        return members(self._asker, self._topics, feeds)

    def check_kafka(self) -> None:
        """Raise UnavailableError where it is Kafka as a whole that does not answer, and not one feed's broker."""
        self._asker.cluster_id()

    def left(self, waiting: Collection[Partition]) -> set[Partition]:
        """Return those of these feeds whose agency's own clients have left, as far as is known by now."""
        return self._leaving.left(waiting)

    def bounds(self, feeds: Collection[Partition]) -> dict[Partition, Bounds]:
        """Return what the logs of these feeds have; one that there is not, or not yet, is left out."""
        if not feeds:
            return {}
        existing = self._asker.list_topics()
        there = [feed for feed in feeds if feed.topic in existing]
        ends = self._asker.log_ends(there)
        firsts = self._reader.beginning_offsets(there) if there else {}
        return {feed: Bounds(firsts[feed], ends[feed]) for feed in there}

    def look_due(self) -> bool:
        """Tell, now and then, that it is time to look what has become of the feeds."""
        now = self._clock.monotonic()
        due = now >= self._look_at
        if due:
            self._look_at = now + LOOK_S
        return due

    def look(self) -> Looked:
        """Return what has become of the feeds since it was looked last, by what the reader's metadata says.

        What it does not know is asked for, and only what is missing for long was deleted.
        """
        ids = self._reader.topic_ids({feed.topic for feed in self._read})
        anew = {topic for topic, found in ids.items() if self._ids.get(topic, found) != found}
        self._ids.update(ids)
        doubtful = {feed for feed in self._read if (feed.topic in ids) == (feed in self._deleted)}
        doubtful |= (self._missing.keys() - self._deleted) | (self._deleted - self._read)
        now = self._clock.monotonic()
        if doubtful:
            self._ask_for(doubtful)
        if doubtful - self._deleted:
            self._look_at = now + LOOK_AGAIN_S
        gone = {feed for feed, since in self._missing.items() if now - since >= MISSING_S}
        told, self._deleted = self._deleted, gone
        for feed in gone - told:
            log.error("feed_deleted", feed=feed.topic)
        return Looked({feed for feed in self._read if feed.topic in anew}, gone - told, told - gone)

    def _ask_for(self, feeds: Collection[Partition]) -> None:
        """Note which of these feeds there are not, and since when."""
        existing = self._admin.list_topics()
        now = self._clock.monotonic()
        for feed in feeds:
            if feed.topic in existing:
                self._missing.pop(feed, None)
            else:
                self._missing.setdefault(feed, now)

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
        self._failing_since = None  # it was of shares that may be another's by now
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

    def begin_commit(self, cursors: Mapping[Partition, Committed]) -> None:
        """Begin to commit cursors, one commit at a time; feeds are read on meanwhile."""
        kept = self._there(cursors)
        self._under_way = _UnderWay(cursors, kept, self._committer.submit(self._commit, kept))

    def committing(self) -> bool:
        """Tell whether a commit is under way, or has ended and was not asked about yet."""
        return self._under_way is not None

    def committed(self, *, wait: bool) -> dict[Partition, Committed]:
        """Return the cursors of the commit that has ended, as far as they need no other: none while the group refuses.

        It does while shares are dealt anew, or when they are another's by now; refused for long, it raises
        UnavailableError. A feed that there is not must not keep everybody else's cursor from being committed: its own
        waits for it to come back, and needs no commit once the feed was deleted. ``wait`` until it has ended.
        """
        while (under_way := self._under_way) is not None and (wait or under_way.answer.done()):
            self._under_way, kept = None, under_way.kept
            try:
                try:
                    under_way.answer.result()
                except UnknownTopicError:
                    self._ask_for(kept)
                    if self._there(kept).keys() == kept.keys():
                        raise  # the broker has not heard of it yet
                    self.begin_commit(under_way.cursors)
                    continue
            except UnavailableError as error:
                self._refused(error)
            else:
                self._failing_since = None
                return {feed: at for feed, at in under_way.cursors.items() if feed in kept or feed in self._deleted}
        return {}

    def await_commit(self) -> None:
        """Wait until no commit is under way, whatever it comes to: that is still to be asked."""
        if self._under_way is not None:
            futures.wait([self._under_way.answer])

    def _refused(self, error: UnavailableError) -> None:
        now = self._clock.monotonic()
        self._failing_since = now if self._failing_since is None else self._failing_since
        if now - self._failing_since > COMMIT_PATIENCE_S:
            raise error
        log.debug("cursors_uncommitted", error=str(error))

    def _there(self, cursors: Mapping[Partition, Committed]) -> dict[Partition, Committed]:
        return {feed: cursor for feed, cursor in cursors.items() if feed not in self._missing}

    def _commit(self, cursors: Mapping[Partition, Committed]) -> None:
        if cursors:
            self._member.commit(cursors)

    def close(self) -> None:
        """Leave the group and close both. Whoever leaves hands over, and commits once more."""
        self._opened.callback(self._committer.shutdown)
        self._opened.callback(self._member.close)
        self._opened.close()
