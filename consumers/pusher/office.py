"""What all lines of a pusher share: building messages, sending them, and putting what ended on record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

import orjson
import structlog

from consumers.pusher.line import Delivery, Ended, Unready
from consumers.pusher.metrics import PusherMetrics
from consumers.pusher.outbox import Outbox, Outgoing
from consumers.pusher.traces import Traces
from consumers.runner.learning import Learning
from schemas.codec import Codec, UndecodableValue
from schemas.receipts import REACHED_BY, Receipt
from schemas.registry_client import RegistryAway, RegistryError
from schemas.topics import PROBE_AGENCY, Topics
from services.delivery.message import Format, Message, batch, message_of, single
from services.delivery.outcome import Delivered, Outcome, Refused
from services.delivery.receiver import Receiver
from services.delivery.sender import Sender
from services.quarantine.aside import DECIDED, aside, pointer
from services.runtime.alerts import Alert, AlertKind
from services.runtime.clock import Clock
from services.runtime.tracing import Tracer, Untraced

log = structlog.get_logger()


class PushOffice:
    """The lines' surroundings in the real pusher."""

    def __init__(
        self,
        codec: Codec,
        sender: Sender,
        outbox: Outbox,
        topics: Topics,
        clock: Clock,
        metrics: PusherMetrics,
        probe_sender: Sender | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """``probe_sender`` sends the system's own probe, and nothing else."""
        self._traces = Traces(tracer or Untraced())
        self._learning = Learning(codec)
        self._sender = sender
        self._probe_sender = probe_sender or sender
        self._outbox = outbox
        self._topics = topics
        self._clock = clock
        self._metrics = metrics

    def build(self, delivery: Delivery, form: Format) -> Message | Refused | Unready:
        """Build the message of a feed's record; a schema that isn't at hand is fetched meanwhile."""
        record = delivery.record
        try:
            return message_of(record.headers, record.value, self._learning.decode, form)
        except RegistryAway:
            return Unready(self._until_known(record.value))
        except (UndecodableValue, RegistryError, UnicodeDecodeError) as error:
            return Refused(f"不能解码 (undecodable): {error}")

    def _until_known(self, value: bytes | None) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        until = loop.create_future()

        def known() -> None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(_settle, until)

        self._learning.then(value, known)
        return until

    async def send(self, receiver: Receiver, deliveries: Sequence[Delivery]) -> Outcome:
        """Make one attempt; a receiver of batches gets one even of a single event."""
        self._metrics.of(receiver.agency).attempts.inc()
        messages = [delivery.message for delivery in deliveries if delivery.message is not None]
        cursor = deliveries[-1].record.offset
        post = single(messages[0], cursor) if receiver.profile.batch == 1 else batch(messages, cursor)
        sender = self._probe_sender if receiver.agency == PROBE_AGENCY else self._sender
        attempt = self._traces.begin(deliveries)
        if attempt.headers:
            post = replace(post, headers={**post.headers, **attempt.headers})
        outcome = await sender.send(receiver, post, self._clock.now())
        self._traces.end(receiver.agency, attempt, outcome)
        return outcome

    def record(self, ended: Ended, on_recorded: Callable[[], None]) -> None:
        """Write the receipt, and the parked event before it, then call back; the probe leaves neither."""
        if ended.agency == PROBE_AGENCY:
            asyncio.get_running_loop().call_soon(on_recorded)
            return
        outgoing = [self._receipt(ended)]
        if isinstance(ended.outcome, Refused):
            outgoing = [*self._parked(ended, ended.outcome), *outgoing]
            self._tell_parked(ended, ended.outcome)
        left = len(outgoing)

        def one_done() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                on_recorded()

        for one in outgoing:
            self._outbox.put(one, one_done)
        self._count(ended)

    def gone(self, agency: str, reason: str) -> None:
        """Ask the portal to suspend an agency."""
        log.warning("agency_gone", agency=agency, reason=reason)
        request = {"kind": "suspend-agency", "agency": agency, "reason": reason}
        self._outbox.put(
            Outgoing(self._topics.control_requests, agency.encode(), orjson.dumps(request), []), lambda: None
        )
        self.alert(AlertKind.AGENCY_GONE, agency, reason)

    def held(self, agency: str, why: str) -> None:
        """Raise the alert that a line is held."""
        self.alert(AlertKind.LINE_HELD, agency, why)

    def flows(self, agency: str, *, was_gone: bool) -> None:
        """Close what was raised."""
        for kind in (AlertKind.LINE_HELD, *([AlertKind.AGENCY_GONE] if was_gone else [])):
            self.alert(kind, agency, "已恢复 (it flows again)", closed=True)

    def unwritten(self, topic: str, why: str | None) -> None:
        """Raise the alert that a topic can't be written to, or close it (None).

        It is about the agency whose parked events wait, else about the topic. Of the alerts' own no alert can tell.
        """
        if topic == self._topics.alerts:
            return
        subject = self._topics.parked_by(topic) or topic
        detail = (
            f"{topic} 写不进 (can't be written to)：{why}" if why is not None else f"{topic} 已可写 (it is written)"
        )
        self.alert(AlertKind.TOPIC_UNWRITABLE, subject, detail, closed=why is None, topic=topic)

    def alert(self, kind: AlertKind, agency: str, detail: str, *, closed: bool = False, **labels: str) -> None:
        """Put an alert on its topic; how the probe fares is told by the monitor."""
        if agency == PROBE_AGENCY:
            return
        at = self._clock.now().isoformat()
        found = Alert(kind, agency, at, detail[:2000], "closed" if closed else "open", labels)
        self._metrics.alerts.labels(agency, kind, found.state).inc()
        outgoing = Outgoing(self._topics.alerts, found.key.encode(), found.to_bytes(), [], in_order=True)
        self._outbox.put(outgoing, lambda: None)

    def _tell_parked(self, ended: Ended, refused: Refused) -> None:
        """Alert somebody, unless it was somebody's decision."""
        said = {"agency": ended.agency, "cursor": ended.delivery.record.offset, "reason": refused.reason}
        if refused.decided:
            log.info("event_stopped", **said)
            return
        log.warning("event_parked", **said)
        kind = AlertKind.EVENT_UNDECODABLE if refused.status is None else AlertKind.EVENT_PARKED
        event_id = dict(ended.delivery.record.headers).get("ce_id", b"").decode(errors="replace")
        self.alert(kind, ended.agency, refused.reason, cursor=str(ended.delivery.record.offset), event_id=event_id)

    def _count(self, ended: Ended) -> None:
        counted, message = self._metrics.of(ended.agency), ended.delivery.message
        if not isinstance(ended.outcome, Delivered):
            counted.parked.inc()
            return
        counted.delivered.inc()
        published = _time(message.published_at) if message is not None else None
        if published is not None:
            counted.seconds.observe(max(0.0, (ended.at - published).total_seconds()))

    def _receipt(self, ended: Ended) -> Outgoing:
        delivery, message = ended.delivery, ended.delivery.message
        refused = ended.outcome if isinstance(ended.outcome, Refused) else None
        headers = dict(delivery.record.headers)
        receipt = Receipt(
            agency=ended.agency,
            cursor=delivery.record.offset,
            event_id=message.event_id if message else headers.get("ce_id", b"").decode(errors="replace"),
            source=message.source if message else headers.get("ce_source", b"").decode(errors="replace"),
            type=message.type if message else headers.get("ce_type", b"").decode(errors="replace"),
            # What ends unbuilt tells of its event too: the ledger joins receipts by it.
            subject=message.subject if message else headers.get("ce_subject", b"").decode(errors="replace"),
            attempts=delivery.attempts,
            first_at=delivery.first_at.isoformat() if delivery.first_at else None,
            last_at=ended.at.isoformat(),
            published_at=message.published_at if message else None,
            outcome="parked" if refused else "delivered",
            status=ended.outcome.status,
            reason=refused.reason if refused else None,
            words=refused.words or None if refused else None,
            digest=message.digest if message else None,
            traceparent=headers.get("ce_traceparent", b"").decode(errors="replace") or None,
            happened_at=headers.get("ce_time", b"").decode(errors="replace") or None,
            reached_by=headers.get(REACHED_BY, b"").decode(errors="replace") or None,
        )
        return Outgoing(self._topics.receipts, ended.agency.encode(), receipt.to_bytes(), [])

    def _parked(self, ended: Ended, refused: Refused) -> list[Outgoing]:
        record = ended.delivery.record
        ours = [
            ("hongyan-stage", b"pusher"),
            ("hongyan-status", str(refused.status or "").encode()),
            ("hongyan-parked-at", ended.at.isoformat().encode()),
            ("hongyan-refusal", refused.reason.encode()),
            *([("hongyan-words", refused.words.encode(errors="replace"))] if refused.words else []),
            *([(DECIDED, b"1")] if refused.decided else []),
        ]
        topics = [self._topics.parked(ended.agency)]
        if refused.status is None and not refused.decided:
            topics.append(self._topics.deadletter("pusher"))
        one, short = aside(record, ours), pointer(record, ours)
        return [
            Outgoing(topic, one.key, one.value, one.headers, Outgoing(topic, short.key, short.value, short.headers))
            for topic in topics
        ]


def _settle(until: asyncio.Future[None]) -> None:
    if not until.done():
        until.set_result(None)


def _time(text: str | None) -> datetime | None:
    """Read a time that any producer may have written; None for what is none, or has no offset."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
