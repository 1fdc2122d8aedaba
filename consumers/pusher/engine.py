"""The pusher: a thread that owns the Kafka clients and an event loop that delivers, with the lines between them.

Feeds are divided into shares, and the consumer group balances the shares, a topic that never changes. So a new agency
is taken up without a rebalance: its share's owner adds its feed to what it reads. Cursors are committed under the same
group membership, which fences an owner of yesterday.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from consumers.pusher.calling import LoopCalls
from consumers.pusher.line import Line
from consumers.pusher.metrics import PusherMetrics
from consumers.pusher.note import left
from consumers.pusher.office import PushOffice
from consumers.pusher.outbox import Outbox
from consumers.pusher.placing import NONE, Bounds, Place, answered, is_astray, place_of, untold
from consumers.pusher.reading import Looked, Reading
from consumers.pusher.receivers import Receivers
from consumers.pusher.waiting import untold_why, waits_why
from schemas.topics import Topics
from services.delivery.breaker import Breaker
from services.delivery.cursors import has_left
from services.delivery.gap import Gap
from services.delivery.window import Window
from services.runtime.alerts import AlertKind
from services.runtime.clock import Clock
from services.runtime.errors import OffTheLogError, UnavailableError
from services.runtime.kafka.port import Committed, Kafka, Partition, Record
from services.runtime.lifecycle import outlast

FULL_POLL_S = 0.005
POLL_S = 0.05
# A cursor may lag behind by this: it bounds nothing but how much is repeated after a crash, which the window bounds.
COMMIT_EVERY_S = 0.1
POLL_RECORDS = 256
LOOP_CALL_S = 10.0
WIND_DOWN_S = 3.0
# What is healthy ends in far less; a black hole's request goes on over the rebalance and isn't waited for.
HAND_OVER_S = 0.3
# Kafka forgets cursors of topics that their group doesn't subscribe to when they are a week old.
RENEW_S = 3600.0
# For so long feeds of which a broker can't tell are sought among many that begin together.
PLACES_S = 10.0
# How often it is asked whether somebody has decided where a line that is astray goes on.
DECISIONS_S = 5.0

Found = Mapping[Partition, Sequence[Record]]
NOTHING: Found = {}

log = structlog.get_logger()


@dataclass(slots=True)
class Survey:
    """The lines at one moment: cursors that are not committed yet, lines without room, lines with work under way.

    Only lines that something has happened to are looked at anew, so that hundreds of still ones cost nothing.
    """

    behind: dict[Partition, Committed] = field(default_factory=dict)
    full: set[Partition] = field(default_factory=set)
    busy: set[Partition] = field(default_factory=set)
    urgent: bool = False
    """Whether a commit would let a line go on, or tells of one that is held, flows again or left."""

    def forget(self, partition: Partition) -> None:
        """Leave a line out that is no longer there."""
        self.behind.pop(partition, None)
        self.full.discard(partition)
        self.busy.discard(partition)


class Pusher:
    """Delivers the feeds whose shares the consumer group gives this process, until told to stop.

    Lines live in the event loop; the Kafka thread reads for them, writes their receipts and commits their cursors.
    """

    def __init__(
        self,
        kafka: Kafka,
        topics: Topics,
        receivers: Receivers,
        office: PushOffice,
        outbox: Outbox,
        clock: Clock,
        metrics: PusherMetrics,
        loop: asyncio.AbstractEventLoop,
        instance: str,
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._receivers = receivers
        self._office = office
        self._outbox = outbox
        self._clock = clock
        self._metrics = metrics
        self._in_loop = LoopCalls(loop, LOOP_CALL_S)
        self._instance = instance
        self._lines: dict[Partition, Line] = {}
        self._committed: dict[Partition, Committed] = {}
        self._unusable: set[str] = set()
        self._gave_up = False
        self._went_back = False
        self._anew: set[Partition] = set()
        self._decisions_at = 0.0
        self._survey = Survey()
        self._changed: set[Partition] = set()
        self._commit_at = 0.0
        self._group_at = 0.0
        self._renew_at = clock.monotonic() + RENEW_S
        # Shares may be dealt anew at any moment, in a thread of the client's; held except while the group is polled.
        self._turn = threading.RLock()
        self.working = False

    def run(self, stop: threading.Event) -> None:
        """Push until ``stop``; call it in a thread of its own. Whatever is away is waited for."""
        outlast("pusher", lambda: self._session(stop), stop, on_outage=self._interrupted)

    def _interrupted(self) -> None:
        self.working = False

    def _session(self, stop: threading.Event) -> None:
        producer = self._kafka.producer(client_id=self._instance, acknowledge_timeout_s=10.0)
        try:
            self._outbox.attach(producer)
            reading = Reading(self._kafka, self._topics, self._instance, self._clock)
            try:
                self._push_until(stop, reading)
            finally:
                reading.close()
                self._in_loop(self._close_lines, list(self._lines))
        finally:
            self._in_loop(self._outbox.attach, None)
            producer.close()

    def _push_until(self, stop: threading.Event, reading: Reading) -> None:
        seen = -1
        reading.join(lambda: self._take_over(reading), lambda: self._hand_over(reading))
        while not stop.is_set():
            with self._turn:
                if seen != self._receivers.version():
                    seen = self._receivers.version()
                    self._take_over(reading)
                    self._in_loop(self._refresh_receivers)
                hurries = self._survey.full or self._outbox.due() or reading.committing()
                wait_s = FULL_POLL_S if hurries else POLL_S
                found = reading.poll_feeds(wait_s, POLL_RECORDS)
                self._round(reading, found)
                if self._out_of_place(reading) or self._gave_up:
                    self._gave_up = False
                    reading.changed = True
                    self._take_over(reading)
            self._poll_group(reading)
            self.working = True
        with self._turn:
            self._wind_down(reading, WIND_DOWN_S)
            self._in_loop(self._close_lines, list(self._lines))

    def _poll_group(self, reading: Reading) -> None:
        """Keep the membership. To ask takes as long as a delivery: it is done as often as a quiet feed is read."""
        now = self._clock.monotonic()
        if now >= self._group_at:
            self._group_at = now + POLL_S
            reading.poll_group(0.0 if self._lines else POLL_S)

    def _round(self, reading: Reading, found: Found = NOTHING, *, at_once: bool = False) -> None:
        """Take in what was read, write what waits, commit what has ended, and read on where there is room."""
        self._outbox.flush()
        now = self._clock.monotonic()
        if now >= self._renew_at:
            self._renew_at += RENEW_S
            self._in_loop(self._forget_commits)
        survey = self._in_loop(self._look, found, reading.committed(wait=at_once))
        if survey.behind and not reading.committing() and (at_once or survey.urgent or now >= self._commit_at):
            self._commit_at = now + COMMIT_EVERY_S
            reading.begin_commit(dict(survey.behind))
        reading.pause_only(survey.full)

    def _settle(self, reading: Reading) -> None:
        """Wait for the commit that is under way: what it comes to is known before lines end or begin."""
        if reading.committing():
            self._in_loop(self._note_commits, reading.committed(wait=True))

    def _look(self, found: Found, settled: Mapping[Partition, Committed]) -> Survey:
        """Take in what was read and what was committed, and look at the lines that have changed, in the event loop."""
        self._take(found)
        self._note_commits(settled)
        survey = self._survey
        survey.urgent = False
        for partition in self._changed:
            line = self._lines.get(partition)
            if line is None:
                survey.forget(partition)
                continue
            cursor, known = line.to_commit(), self._committed.get(partition)
            _put(survey.full, partition, not line.wants_more())
            _put(survey.busy, partition, line.busy())
            if cursor == known:
                survey.behind.pop(partition, None)
                continue
            survey.behind[partition] = cursor
            survey.urgent |= known is None or cursor.note != known.note or line.starved()
        self._changed.clear()
        self._changed.update(p for p, line in self._lines.items() if line.leaving())
        return survey

    def _forget_commits(self) -> None:
        self._committed.clear()
        self._changed.update(self._lines)

    def _refresh_receivers(self) -> None:
        for partition, line in self._lines.items():
            receiver = self._receivers.get(self._topics.agency_of(partition.topic))
            if receiver is not None:
                line.set_receiver(receiver)
                self._tell_unusable(receiver.agency, receiver.held if receiver.unusable else None)

    def _tell_unusable(self, agency: str, why: str | None) -> None:
        if (why is not None) != (agency in self._unusable):
            self._unusable ^= {agency}
            self._office.alert(AlertKind.RECEIVER_UNUSABLE, agency, why or "已可用 (usable again)", closed=why is None)

    def _take(self, found: Found) -> None:
        for partition, records in found.items():
            line = self._lines.get(partition)
            if line is None or not records:
                continue
            if records[0].offset < line.position():
                self._went_back = True  # what was taken in is of another log
            else:
                line.take(records)

    def _out_of_place(self, reading: Reading) -> bool:
        """Tell whether lines are to be dealt anew, since their logs or cursors are no longer those they began with."""
        reading.off_the_log |= self._went_back
        self._went_back = False
        if not (reading.off_the_log or reading.look_due()):
            return False
        looked = reading.look()
        if looked.deleted or looked.back:
            self._settle(reading)
            self._in_loop(self._tell_deleted, looked)
        self._anew |= looked.anew
        free = [*self._decided(reading), *reading.left([p for p, line in self._lines.items() if line.waits])]
        if free:
            self._settle(reading)
            self._in_loop(self._close_lines, free)
        return reading.off_the_log or bool(self._anew or free)

    def _tell_deleted(self, looked: Looked) -> None:
        for partition in looked.deleted:
            self._tell_gap(partition, "队列主题已被删除；重建后自动从头续推 (the feed's topic was deleted)")
        for partition in looked.back:
            self._tell_gap(partition, "队列主题又在 (the feed's topic is there again)", closed=True)
            self._committed.pop(partition, None)  # it was not, while there was no topic to commit it for
            self._changed.add(partition)

    def _decided(self, reading: Reading) -> list[Partition]:
        """Return the lines that were astray, and of which somebody has decided where they go on."""
        astray = [p for p, committed in self._committed.items() if is_astray(committed)]
        now = self._clock.monotonic()
        if not astray or now < self._decisions_at:
            return []
        self._decisions_at = now + DECISIONS_S
        try:
            own = reading.own_cursors(astray)
        except UnavailableError as error:
            log.debug("decisions_unknown", error=str(error))  # it is asked again; the other lines go on
            return []
        return [p for p in astray if answered(self._committed[p], own[p])]

    def _tell_gap(self, partition: Partition, detail: str, gap: Gap | None = None, *, closed: bool = False) -> None:
        labels = {"from": str(gap.start), "to": str(gap.end)} if gap is not None else {}
        agency = self._topics.agency_of(partition.topic)
        log.warning("feed_out_of_place", agency=agency, detail=detail, over=closed)
        self._office.alert(AlertKind.FEED_GAP, agency, detail, closed=closed, **labels)

    def _note_commits(self, commits: Mapping[Partition, Committed]) -> None:
        self._committed.update(commits)
        self._changed.update(commits)
        for partition, held in commits.items():
            line = self._lines.get(partition)
            if has_left(held.note):
                self._close_lines([partition])
                self._gave_up = self._gave_up or line is not None
            elif line is not None:
                line.committed(held.offset)
                self._metrics.held.labels(line.receiver.agency).set(1 if held.note else 0)

    def _take_over(self, reading: Reading) -> None:
        """Read the feeds of our shares from their committed cursors; lines that are still ours go on where they were.

        A line whose cursor another process has moved meanwhile is closed and begun anew.
        """
        with self._turn:
            self._deal(reading, reading.shares())

    def _deal(self, reading: Reading, shares: Collection[int]) -> None:
        agencies = [a for a in self._receivers.agencies() if self._topics.share_of(a) in shares]
        feeds = {Partition(self._topics.feed(agency), 0) for agency in agencies}
        leaving = self._in_loop(self._leave, feeds, shares)
        wanted = feeds | leaving
        if wanted == set(self._lines) and not reading.changed:
            return
        self._settle(reading)
        anew = self._anew & wanted
        self._in_loop(self._end_old, anew)
        if reading.off_the_log and not anew:
            self._in_loop(self._put_right, reading.bounds(self._lines))
        others = [a for a in self._receivers.others() if self._topics.share_of(a) in shares]
        strange = {Partition(self._topics.feed(agency), 0) for agency in others} - wanted
        held = reading.starts(wanted | strange)
        self._in_loop(self._let_go, {p: held[p] for p in strange if held[p] is not NONE})
        starts = {p: held[p] for p in wanted} | dict.fromkeys(anew, NONE)
        self._in_loop(self._close_lines, [p for p in self._lines if not self._still_ours(p, starts)])
        new = {partition: start for partition, start in starts.items() if partition in feeds - set(self._lines)}
        moved = set(self._maybe_moved(new, anew))
        self._in_loop(self._open_lines, self._places(reading, new, moved, self._clock.monotonic() + PLACES_S))
        reading.read({p: line.position() for p, line in self._lines.items() if line.reads()})
        self._anew.clear()
        self._metrics.lines.set(len(self._lines))
        log.info("feeds_assigned", feeds=len(self._lines), new=len(new))

    def _places(
        self, reading: Reading, new: Mapping[Partition, Committed], moved: Collection[Partition], until: float
    ) -> dict[Partition, Place]:
        """Return where new lines begin. One of which a broker can't tell now waits, and no other with it."""
        asked = [p for p in new if p in moved]
        try:
            members = reading.members(asked)  # before their cursors: who has left by now moves them no more
            own, bounds = reading.own_cursors(asked), reading.bounds(new)
        except UnavailableError as error:
            reading.check_kafka()
            if len(new) == 1 or self._clock.monotonic() >= until:
                log.warning("feeds_untold", feeds=len(new), error=str(error))
                return {p: untold(at, untold_why(error)) for p, at in new.items()}
            some = dict(list(new.items())[: len(new) // 2])
            rest = {p: at for p, at in new.items() if p not in some}
            return self._places(reading, some, moved, until) | self._places(reading, rest, moved, until)
        places = {p: place_of(at, own.get(p, NONE), bounds.get(p)) for p, at in new.items()}
        return {p: replace(place, waits=waits_why(members.get(p, 0))) for p, place in places.items()}

    def _maybe_moved(self, starts: Mapping[Partition, Committed], anew: Collection[Partition]) -> list[Partition]:
        may = self._receivers.may_have_moved
        return [
            p
            for p, start in starts.items()
            if p not in anew and (may(self._topics.agency_of(p.topic)) or is_astray(start))
        ]

    def _end_old(self, anew: Collection[Partition]) -> None:
        """Let lines go whose feeds were deleted and made anew: what they hold is of the old ones."""
        for partition in anew & self._lines.keys():
            line = self._lines[partition]
            gap = Gap(line.to_commit().offset, line.position())
            detail = (
                f"队列主题被删除重建，从新队列的开头续推；旧队列里游标 {gap.start} 起未了结的不再推送"
                f" (the feed's topic was made anew; what stood in the old one from {gap.start} on is not delivered)"
            )
            self._tell_gap(partition, "主题已重建 (it was made anew)", closed=True)
            self._tell_gap(partition, detail, gap)
            self._close_lines([partition])

    def _put_right(self, bounds: Mapping[Partition, Bounds]) -> None:
        """See to the lines whose position is not on their log; raises OffTheLogError where all are, by what it says."""
        off = [
            (partition, line, found)
            for partition, found in bounds.items()
            if (line := self._lines[partition]).reads() and not found.first <= line.position() <= found.end
        ]
        if not off:
            raise OffTheLogError
        for partition, line, found in off:
            if line.position() > found.end:
                self._close_lines([partition])
            else:
                gap = Gap(line.position(), found.first)
                self._tell_gap(partition, gap.told(), gap)
                line.skip_to(found.first)

    def _leave(self, feeds: Collection[Partition], shares: Collection[int]) -> set[Partition]:
        """Let lines go whose agency takes its feed by another channel now; return them, since they end their work."""
        leaving = set()
        for partition, line in self._lines.items():
            if partition in feeds:
                line.stay()
            elif self._topics.share_of(self._topics.agency_of(partition.topic)) in shares:
                line.leave()
                leaving.add(partition)
        return leaving

    def _let_go(self, strange: Mapping[Partition, Committed]) -> None:
        """Note of feeds which another channel has that nobody pushes them.

        It was given them while no pusher had a line of theirs to give up, and waits for this note.
        """
        for partition in self._survey.behind.keys() - self._lines.keys():
            self._survey.forget(partition)
        for partition, cursor in strange.items():
            if not has_left(cursor.note):
                self._survey.behind[partition] = Committed(cursor.offset, left(cursor.note, self._clock.now()))

    def _still_ours(self, partition: Partition, starts: Mapping[Partition, Committed]) -> bool:
        """Tell whether nobody has moved the cursor since this line began or committed."""
        known = self._committed.get(partition)
        begun = known.offset if known is not None else self._lines[partition].window.committed
        start = starts.get(partition)
        return start is not None and start.offset == begun and not has_left(start.note)

    def _open_lines(self, places: Mapping[Partition, Place]) -> None:
        for partition, place in places.items():
            receiver = self._receivers.get(self._topics.agency_of(partition.topic))
            if receiver is None:
                continue
            profile, start = receiver.profile, place.cursor
            breaker = Breaker(profile.retry, profile.hold_after, random.random)
            line = Line(partition, receiver, self._office, Window(profile.window, start.offset), breaker, self._clock)
            line.changed, line.astray, line.waits = self._changed, place.astray, place.waits
            line.seed(start.note)
            self._tell_place(partition, place)
            self._lines[partition] = line
            log.debug("line_begun", agency=receiver.agency, cursor=start.offset)
            self._metrics.of(receiver.agency)
            self._changed.add(partition)
            self._tell_unusable(receiver.agency, receiver.held if receiver.unusable else None)
        for line in self._lines.values():
            line.resume()

    def _tell_place(self, partition: Partition, place: Place) -> None:
        if place.astray is not None and not is_astray(place.cursor):
            self._tell_gap(partition, place.astray)
        if place.gap is not None:
            self._tell_gap(partition, place.gap.told(), place.gap)
        if place.decided:
            at = place.cursor.offset
            self._tell_gap(partition, f"按决定从 {at} 续推 (it goes on from there, by decision)", closed=True)

    def _hand_over(self, reading: Reading) -> None:
        """The shares are being dealt anew: commit what ends soon. Lines that come back to us lose nothing by it."""
        with self._turn:
            self._wind_down(reading, HAND_OVER_S)

    def _wind_down(self, reading: Reading, limit_s: float) -> None:
        """Start nothing new, let what is under way end, and commit it."""
        pause = threading.Event()
        deadline = self._clock.monotonic() + limit_s
        try:
            self._in_loop(self._stop_starting)
            self._settle(reading)
            while True:
                self._round(reading, at_once=True)
                survey = self._survey
                if not (survey.busy or survey.behind or self._outbox):
                    return
                if self._clock.monotonic() >= deadline:
                    self._settle(reading)
                    return
                pause.wait(FULL_POLL_S)
        except UnavailableError as error:
            # The next owner starts from the last commit: what ended since is sent again, under the same id.
            log.warning("handover_uncommitted", error=str(error))
        finally:
            reading.await_commit()  # once it is the next owner's, ours may change it no more

    def _stop_starting(self) -> None:
        for line in self._lines.values():
            line.winding_down = True

    def _close_lines(self, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            line = self._lines.pop(partition, None)
            self._committed.pop(partition, None)
            self._survey.forget(partition)
            if line is not None:
                line.close()


def _put(members: set[Partition], one: Partition, belongs: bool) -> None:
    """Have one in a set, or not."""
    if belongs:
        members.add(one)
    else:
        members.discard(one)
