"""The table sink: one agency's feed into tables of its own database, effectively once."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from typing import NoReturn

import structlog

from consumers.pusher.note import WHY_CHARS, Note
from consumers.pusher.placing import Bounds, is_astray
from consumers.runner.rows import Never
from consumers.table_sink.change import Change, Stopped, change_of
from consumers.table_sink.placing import BATCH, Start, start_of, taken_up
from consumers.table_sink.target import Refusal, Stand, Target
from schemas.codec import Codec, SchemaSource
from schemas.receipts import REACHED_BY, Receipt
from schemas.topics import Topics
from services.delivery.cursors import Cursors
from services.delivery.gap import Gap
from services.quarantine.aside import DECIDED, aside
from services.runtime.alerts import Alert, AlertKind
from services.runtime.clock import Clock
from services.runtime.errors import ConflictError, DatabaseUnavailableError, UnavailableError, UnknownTopicError
from services.runtime.kafka.port import Committed, Consumer, Kafka, Partition, Producer, Record
from services.runtime.lifecycle import outlast
from services.subscriptions.control import ControlView
from services.subscriptions.stopping import Stops, grants_of, stopped

POLL_S = 0.2
# A broker may not know of a topic yet, or of its making: only what is missing for so long was deleted.
MISSING_S = 2.0
ACKNOWLEDGE_S = 10.0

log = structlog.get_logger()


class WaitingError(UnavailableError):
    """The agency does not take its feed by this channel now."""


class TableSink:
    """Fills the tables until told to stop. The cursor in the agency's database is the one that counts; the one in
    Kafka follows it, once the receipts are on the log."""

    def __init__(
        self,
        kafka: Kafka,
        topics: Topics,
        view: ControlView,
        agency: str,
        target: Target,
        codec: Codec,
        schemas: SchemaSource,
        follow_up_types: Collection[str],
        clock: Clock,
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._view = view
        self._stops = Stops(view)
        self._agency = agency
        self._feed = Partition(topics.feed(agency), 0)
        self._target = target
        self._codec = codec
        self._schemas = schemas
        self._follow_up_types = follow_up_types
        self._clock = clock
        self._cursors = Cursors(kafka, topics)
        self._next = 0
        self._made: str | None = None  # which making of the feed's topic it is that was read last
        self._missing_since: float | None = None
        self._told_missing = False
        self._told_astray = False
        self._told: bool | None = None  # a predecessor may have told of what is over by now
        self.trouble: str | None = "starting"

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop``; whatever is away is waited for."""
        outlast("table_sink", lambda: self._session(stop), stop)
        self._target.close()
        self._cursors.close()

    def _session(self, stop: threading.Event) -> None:
        try:
            self._check_turn()
            # Nothing is passed over or read again in silence: a position that is not on the log is an error.
            consumer = self._kafka.consumer(None, client_id="table-sink", exact=True)
            try:
                producer = self._kafka.producer(client_id="table-sink", acknowledge_timeout_s=ACKNOWLEDGE_S)
                try:
                    self._fill(stop, consumer, producer)
                finally:
                    producer.close()
            finally:
                consumer.close()
        except UnavailableError as error:
            self.trouble = str(error)
            raise

    def _check_turn(self) -> None:
        """Raise WaitingError unless the agency takes its feed into tables, and may."""
        channel, held = self._view.channel(self._agency), self._view.held(self._agency)
        if channel != "table":
            self._made = None  # who takes the feed meanwhile sees to it
        if channel != "table" or held:
            raise WaitingError(held or f"{self._agency} 现在的渠道是 {channel} (another channel is in use)")

    def _fill(self, stop: threading.Event, consumer: Consumer, producer: Producer) -> None:
        try:
            self._begin(consumer, producer)
            while not stop.is_set():
                records = list(consumer.poll(POLL_S, BATCH).get(self._feed, ()))
                self._check_turn()
                self._check_making(producer, consumer)
                if records:
                    self._take(producer, records)
                self._tell_held(producer, None)
        except DatabaseUnavailableError as error:
            self._tell_held(producer, str(error))
            raise
        except UnknownTopicError:
            self._tell_missing(producer, missing=True)
            raise
        except ConflictError as error:
            self._tell_held(producer, str(error))
            raise WaitingError(str(error)) from error

    def _begin(self, consumer: Consumer, producer: Producer) -> None:
        """Go on where the tables end. Raises ConflictError while the agency's own clients are in its group."""
        self._cursors.check_free(self._agency)  # before any receipt is written that no cursor could follow
        (pushed, own), held = self._cursors.both(self._agency), self._target.cursor()
        offset = held.offset if held is not None else None
        consumer.assign([self._feed])
        end = self._cursors.log_end(self._agency)
        bounds = Bounds(consumer.beginning_offsets([self._feed])[self._feed], end)
        made = consumer.topic_ids([self._feed.topic]).get(self._feed.topic)
        if self._made is not None and made not in {None, self._made}:
            start = self._anew(producer, bounds.first)
        else:
            start = start_of(offset, pushed, own, bounds, same=_same(held, made))
        if start.astray is not None:
            self._hold(producer, own, start.astray)
        if start.restored is not None:
            lost = start.restored
            log.warning(
                "database_restored", agency=self._agency, held=lost.start, had=lost.end, again_from=start.cursor
            )
        if start.gap is not None:
            self._tell_gap(producer, start.gap.told(), start.gap)
        if held is None or held.offset < start.cursor or start.decided or held.making != (made or held.making):
            # Another channel went on meanwhile, or somebody has decided: the tables go on from there. Or it was not
            # known yet which making of the feed's topic they are of.
            self._target.begin(start.cursor, made or "")
        if start.gap is not None or start.decided:
            self._cursors.put(self._agency, taken_up(pushed, start.cursor))
        if start.decided or self._told_astray:
            self._tell_gap(producer, f"从游标 {start.cursor} 续写 (it goes on from there)", closed=True)
            self._told_astray = False
        self._next, self._made = start.cursor, made or self._made
        # Receipts of what is in the tables already may be missing: killed between the two, they are written again.
        consumer.seek(self._feed, start.read_from)
        log.info("table_sink_started", agency=self._agency, cursor=start.cursor)

    def _check_making(self, producer: Producer, consumer: Consumer) -> None:
        """Raise WaitingError, to begin anew, where the feed's topic was deleted and made anew under this reader.

        One that is not made anew is told of.
        """
        made = consumer.topic_ids([self._feed.topic]).get(self._feed.topic)
        self._tell_missing(producer, missing=made is None)
        if self._made is None and made is not None:
            self._made = made
            self._target.begin(self._next, made)
        if made not in {None, self._made}:
            raise WaitingError("队列主题已重建，从新队列的开头续写 (the feed's topic was made anew)")

    def _tell_missing(self, producer: Producer, *, missing: bool) -> None:
        """Tell once that the feed's topic was deleted, and once that it is there again."""
        now = self._clock.monotonic()
        if not missing:
            self.trouble = self._missing_since = None
            if self._told_missing:
                self._told_missing = False
                self._tell_gap(producer, "队列主题又在 (the feed's topic is there again)", closed=True)
            return
        self._missing_since = self._missing_since if self._missing_since is not None else now
        if now - self._missing_since < MISSING_S:
            return
        self.trouble = "队列主题已被删除；重建后自动从头续写 (the feed's topic was deleted)"
        if not self._told_missing:
            self._tell_gap(producer, self.trouble)
            self._told_missing = True

    def _anew(self, producer: Producer, first: int) -> Start:
        """Return the beginning of a feed that was made anew, and tell what was not taken of the old one."""
        gap = Gap(self._next, self._next)
        detail = (
            f"队列主题被删除重建，从新队列的开头续写；旧队列里游标 {gap.start} 起未写入的不再写入"
            f" (the feed's topic was made anew; what stood in the old one from {gap.start} on is not written)"
        )
        self._tell_gap(producer, detail, gap)
        return Start(first, first, decided=True)

    def _hold(self, producer: Producer, own: Committed, why: str) -> NoReturn:
        """Note that somebody must decide where to go on, tell so, and raise WaitingError."""
        if not is_astray(own):
            note = Note(self._clock.now(), why[:WHY_CHARS], astray=True)
            self._cursors.put(self._agency, Committed(own.offset, note.to_text()))
        if not self._told_astray:
            self._tell_gap(producer, why)
            self._told_astray = True
        raise WaitingError(why)

    def _tell_gap(self, producer: Producer, detail: str, gap: Gap | None = None, *, closed: bool = False) -> None:
        labels = {"from": str(gap.start), "to": str(gap.end)} if gap is not None else {}
        log.warning("feed_out_of_place", agency=self._agency, detail=detail, over=closed)
        self._alert(producer, AlertKind.FEED_GAP, detail, closed=closed, **labels)

    def _take(self, producer: Producer, records: Sequence[Record]) -> None:
        following = records[-1].offset + 1
        fresh = [record for record in records if record.offset >= self._next]
        refusals = self._target.parked([record for record in records if record.offset < self._next])
        if fresh:
            changes = [(record, self._change(record)) for record in fresh]
            self._check_turn()  # schemas may have been waited for
            refusals += self._target.apply(changes, self._next, following)
            self._next = following
        self._settle(producer, records, refusals)
        self._cursors.move(self._agency, following, by_tables=True)

    def _change(self, record: Record) -> Change | Never:
        why = stopped(grants_of(record.headers), self._stops.of(self._agency))
        if why is not None:
            return Stopped(why)
        return change_of(record, self._codec.decode, self._schemas, self._follow_up_types)

    def _settle(self, producer: Producer, records: Sequence[Record], refusals: Sequence[Refusal]) -> None:
        """Put receipts on the log, and what was refused into the agency's parking place, with an alert."""
        at = self._clock.now().isoformat()
        refused = {refusal.record.offset: refusal for refusal in refusals}
        sent = []
        for record in records:
            refusal = refused.get(record.offset)
            if refusal is not None:
                self._park(producer, refusal, at)
            value = self._receipt(record, refusal, at).to_bytes()
            sent.append(producer.send(self._topics.receipts, key=self._agency.encode(), value=value))
        for one in sent:
            one.result(ACKNOWLEDGE_S)

    def _park(self, producer: Producer, refusal: Refusal, at: str) -> None:
        record, reason = refusal.record, refusal.reason
        ours = [
            ("hongyan-stage", b"table-sink"),
            ("hongyan-parked-at", at.encode()),
            ("hongyan-refusal", reason.encode(errors="replace")),
            *([("hongyan-words", refusal.words.encode(errors="replace"))] if refusal.words else []),
            *([(DECIDED, b"1")] if refusal.decided else []),
        ]
        put = aside(record, ours)
        topic = self._topics.parked(self._agency)
        producer.send(topic, key=put.key, value=put.value, headers=put.headers, partition=0).result(ACKNOWLEDGE_S)
        if refusal.decided:
            log.info("event_stopped", agency=self._agency, cursor=record.offset, reason=reason)
            return
        log.warning("event_parked", agency=self._agency, cursor=record.offset, reason=reason)
        event_id = dict(record.headers).get("ce_id", b"").decode(errors="replace")
        self._alert(producer, AlertKind.EVENT_PARKED, reason, cursor=str(record.offset), event_id=event_id)

    def _tell_held(self, producer: Producer, why: str | None) -> None:
        """Raise an alert once that the tables can't be filled, and close it once they can."""
        if (why is not None) != self._told:
            self._alert(producer, AlertKind.LINE_HELD, why or "已恢复 (it flows again)", closed=why is None)
            self._told = why is not None

    def _alert(self, producer: Producer, kind: AlertKind, detail: str, *, closed: bool = False, **labels: str) -> None:
        at = self._clock.now().isoformat()
        alert = Alert(kind, self._agency, at, detail[:2000], "closed" if closed else "open", labels)
        sent = producer.send(self._topics.alerts, key=alert.key.encode(), value=alert.to_bytes())
        sent.result(ACKNOWLEDGE_S)

    def _receipt(self, record: Record, refusal: Refusal | None, at: str) -> Receipt:
        named = {name: value.decode(errors="replace") for name, value in record.headers}
        return Receipt(
            agency=self._agency,
            cursor=record.offset,
            event_id=named.get("ce_id", ""),
            source=named.get("ce_source", ""),
            type=named.get("ce_type", ""),
            subject=named.get("ce_subject"),
            outcome="delivered" if refusal is None else "parked",
            last_at=at,
            attempts=1,
            first_at=at,
            published_at=named.get("ce_recordedtime"),
            traceparent=named.get("ce_traceparent"),
            reason=refusal.reason if refusal else None,
            words=refusal.words or None if refusal else None,
            channel="table",
            happened_at=named.get("ce_time"),
            reached_by=named.get(REACHED_BY),
        )


def _same(held: Stand | None, made: str | None) -> bool | None:
    """Tell whether a cursor is of this making of the feed's topic, None where nobody knows."""
    if held is None:
        return True
    return held.making == made if held.making and made is not None else None
