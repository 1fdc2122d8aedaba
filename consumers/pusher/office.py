"""What all lines of a pusher share: building messages, sending them, and putting what ended on record."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import orjson
import structlog

from consumers.pusher.line import Delivery, Ended, Receiver
from consumers.pusher.message import Message, message_of
from consumers.pusher.metrics import PusherMetrics
from consumers.pusher.outbox import Outbox, Outgoing
from consumers.pusher.sender import Sender
from schemas.codec import Codec, UndecodableValue
from schemas.receipts import Receipt
from schemas.registry_client import RegistryAway, RegistryError
from schemas.topics import Topics
from services.delivery.outcome import Delivered, Later, Outcome, Refused
from services.runtime.clock import Clock

log = structlog.get_logger()


class PushOffice:
    """The lines' surroundings in the real pusher."""

    def __init__(
        self, codec: Codec, sender: Sender, outbox: Outbox, topics: Topics, clock: Clock, metrics: PusherMetrics
    ) -> None:
        self._codec = codec
        self._sender = sender
        self._outbox = outbox
        self._topics = topics
        self._clock = clock
        self._metrics = metrics

    def build(self, delivery: Delivery) -> Message | Refused | Later:
        """Build the message of a feed's record."""
        try:
            return message_of(delivery.record, self._codec.decode)
        except RegistryAway as error:
            return Later(f"注册中心不可用 (the schema registry is away): {error}")
        except (UndecodableValue, RegistryError, UnicodeDecodeError) as error:
            return Refused(f"不能解码 (undecodable): {error}")

    async def send(self, receiver: Receiver, delivery: Delivery, message: Message) -> Outcome:
        """Make one attempt."""
        self._metrics.attempts.labels(receiver.agency).inc()
        return await self._sender.send(
            receiver.sink, receiver.secrets, message, delivery.record.offset, self._clock.now()
        )

    def record(self, ended: Ended, on_recorded: Callable[[], None]) -> None:
        """Write the receipt, and the parked event before it, then call back."""
        outgoing = [self._receipt(ended)]
        if isinstance(ended.outcome, Refused):
            outgoing = [*self._parked(ended, ended.outcome), *outgoing]
            log.warning(
                "event_parked",
                agency=ended.agency,
                cursor=ended.delivery.record.offset,
                reason=ended.outcome.reason,
            )
        self._count(ended)
        left = len(outgoing)

        def one_done() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                on_recorded()

        for one in outgoing:
            self._outbox.put(one, one_done)

    def gone(self, agency: str, reason: str) -> None:
        """Ask the portal to suspend an agency."""
        log.warning("agency_gone", agency=agency, reason=reason)
        request = {"kind": "suspend-agency", "agency": agency, "reason": reason}
        self._outbox.put(
            Outgoing(self._topics.control_requests, agency.encode(), orjson.dumps(request), []), lambda: None
        )

    def _count(self, ended: Ended) -> None:
        delivered = isinstance(ended.outcome, Delivered)
        self._metrics.ended.labels(ended.agency, "delivered" if delivered else "parked").inc()
        message = ended.delivery.message
        if delivered and message is not None and message.published_at:
            published = datetime.fromisoformat(message.published_at)
            self._metrics.seconds.labels(ended.agency).observe(max(0.0, (ended.at - published).total_seconds()))

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
            subject=message.subject if message else None,
            attempts=delivery.attempts,
            first_at=delivery.first_at.isoformat() if delivery.first_at else None,
            last_at=ended.at.isoformat(),
            published_at=message.published_at if message else None,
            outcome="parked" if refused else "delivered",
            status=ended.outcome.status,
            reason=refused.reason if refused else None,
            digest=message.digest if message else None,
        )
        return Outgoing(self._topics.receipts, ended.agency.encode(), receipt.to_bytes(), [])

    def _parked(self, ended: Ended, refused: Refused) -> list[Outgoing]:
        record = ended.delivery.record
        headers = [
            *record.headers,
            ("hongyan-stage", b"pusher"),
            ("hongyan-status", str(refused.status or "").encode()),
            ("hongyan-parked-at", ended.at.isoformat().encode()),
            ("hongyan-original-topic", record.topic.encode()),
            ("hongyan-original-partition", str(record.partition).encode()),
            ("hongyan-original-offset", str(record.offset).encode()),
            ("hongyan-refusal", refused.reason.encode()),
        ]
        topics = [self._topics.parked(ended.agency)]
        if refused.status is None:
            topics.append(self._topics.deadletter("pusher"))
        return [Outgoing(topic, record.key, record.value, headers) for topic in topics]
