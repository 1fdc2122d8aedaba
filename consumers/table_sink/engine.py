"""The table sink: one agency's feed into tables of its own database, effectively once."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import structlog

from consumers.runner.cursors import Cursors
from consumers.runner.rows import Never
from consumers.table_sink.change import Change, Stopped, change_of
from consumers.table_sink.target import Refusal, Target
from schemas.codec import Codec, SchemaSource
from schemas.receipts import Receipt
from schemas.topics import Topics
from services.runtime.clock import Clock
from services.runtime.errors import UnavailableError
from services.runtime.kafka.port import Consumer, Kafka, Partition, Producer, Record
from services.runtime.lifecycle import outlast
from services.subscriptions.control import ControlView
from services.subscriptions.stopping import Stops, grants_of, stopped

POLL_S = 0.2
BATCH = 500
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
        self._clock = clock
        self._cursors = Cursors(kafka, topics)
        self._next = 0
        self.trouble: str | None = "starting"

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop``; whatever is away is waited for."""
        outlast("table_sink", lambda: self._session(stop), stop)
        self._target.close()
        self._cursors.close()

    def _session(self, stop: threading.Event) -> None:
        try:
            self._check_turn()
            self._cursors.check_handed_over(self._agency)
            consumer = self._kafka.consumer(None, client_id="table-sink")
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
        if channel != "table" or held:
            raise WaitingError(held or f"{self._agency} 现在的渠道是 {channel} (another channel is in use)")

    def _fill(self, stop: threading.Event, consumer: Consumer, producer: Producer) -> None:
        reached, held = self._cursors.get(self._agency), self._target.cursor()
        if held is None or held < reached:
            # Another channel went on meanwhile: the tables go on from there.
            self._target.begin(reached)
            held = reached
        self._next = held
        consumer.assign([self._feed])
        # Receipts of what is in the tables already may be missing: killed between the two, they are written again.
        consumer.seek(self._feed, max(reached, consumer.beginning_offsets([self._feed])[self._feed]))
        self.trouble = None
        log.info("table_sink_started", agency=self._agency, cursor=held)
        while not stop.is_set():
            records = list(consumer.poll(POLL_S, BATCH).get(self._feed, ()))
            self._check_turn()
            if records:
                self._take(producer, records)

    def _take(self, producer: Producer, records: Sequence[Record]) -> None:
        following = records[-1].offset + 1
        fresh = [record for record in records if record.offset >= self._next]
        old = [record for record in records if record.offset < self._next]
        parked = self._target.parked_cursors(old[0].offset, self._next) if old else set()
        refusals = [
            Refusal(record, "见停放表 (see the table of parked events)") for record in old if record.offset in parked
        ]
        if fresh:
            changes = [(record, self._change(record)) for record in fresh]
            refusals += self._target.apply(changes, self._next, following)
            self._next = following
        self._settle(producer, records, refusals)
        self._cursors.move(self._agency, following)

    def _change(self, record: Record) -> Change | Never:
        why = stopped(grants_of(record.headers), self._stops.of(self._agency))
        return change_of(record, self._codec.decode, self._schemas) if why is None else Stopped(why)

    def _settle(self, producer: Producer, records: Sequence[Record], refusals: Sequence[Refusal]) -> None:
        """Put receipts on the log, and what was refused into the agency's parking place."""
        at = self._clock.now().isoformat()
        reasons = {refusal.record.offset: refusal.reason for refusal in refusals}
        sent = []
        for record in records:
            reason = reasons.get(record.offset)
            if reason is not None:
                log.warning("event_parked", agency=self._agency, cursor=record.offset, reason=reason)
                headers = [*record.headers, *self._parking(record, reason, at)]
                topic = self._topics.parked(self._agency)
                sent.append(producer.send(topic, key=record.key, value=record.value, headers=headers, partition=0))
            value = self._receipt(record, reason, at).to_bytes()
            sent.append(producer.send(self._topics.receipts, key=self._agency.encode(), value=value))
        for one in sent:
            one.result(ACKNOWLEDGE_S)

    def _parking(self, record: Record, reason: str, at: str) -> list[tuple[str, bytes]]:
        return [
            ("hongyan-stage", b"table-sink"),
            ("hongyan-parked-at", at.encode()),
            ("hongyan-original-topic", record.topic.encode()),
            ("hongyan-original-offset", str(record.offset).encode()),
            ("hongyan-refusal", reason.encode()),
        ]

    def _receipt(self, record: Record, reason: str | None, at: str) -> Receipt:
        named = {name: value.decode(errors="replace") for name, value in record.headers}
        return Receipt(
            agency=self._agency,
            cursor=record.offset,
            event_id=named.get("ce_id", ""),
            source=named.get("ce_source", ""),
            type=named.get("ce_type", ""),
            subject=named.get("ce_subject"),
            outcome="delivered" if reason is None else "parked",
            last_at=at,
            attempts=1,
            first_at=at,
            published_at=named.get("ce_recordedtime"),
            reason=reason,
            channel="table",
        )
