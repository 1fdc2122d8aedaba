"""What is posted: a CloudEvent in structured JSON or binary Avro, or a batch, with Standard Webhooks headers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote

from schemas.codec import Decoded, to_json
from schemas.envelope import AVRO_CONTENT_TYPE, header_attributes, message_id
from schemas.tracing import TraceContext, hop_of
from services.runtime.kafka.port import HeaderList

JSON_TYPE = "application/cloudevents+json; charset=utf-8"
BATCH_TYPE = "application/cloudevents-batch+json; charset=utf-8"
CURSOR_HEADER = "hongyan-cursor"
# CloudEvents HTTP binding 1.0.2 §3.1.3.2: everything outside printable ASCII is percent-encoded, and space, " and %.
_PLAIN = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"%')

Format = Literal["json", "avro"]


@dataclass(frozen=True, slots=True)
class Message:
    """One event as it is posted, the same bytes at every attempt; ``id`` is the webhook's (see message_id)."""

    id: str
    event_id: str
    source: str
    type: str
    subject: str
    published_at: str | None
    body: bytes
    content_type: str = JSON_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)
    trace: TraceContext | None = None
    """The span that the event comes from."""

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the body, hex."""
        return hashlib.sha256(self.body).hexdigest()


@dataclass(frozen=True, slots=True)
class Post:
    """One request: the webhook's id, the cursor that it reaches, and what is sent."""

    webhook_id: str
    cursor: int
    content_type: str
    headers: Mapping[str, str]
    body: bytes


def message_of(
    headers: HeaderList, value: bytes | None, decode: Callable[[bytes | None], Decoded], form: Format = "json"
) -> Message:
    """Build the message of a feed's record; raises UndecodableValue, or the registry's retriable error.

    Avro is checked to be readable too: what no receiver could read is never sent.
    """
    attributes = header_attributes(headers)
    data = decode(value).data
    if form == "avro":
        body, kind = value or b"", AVRO_CONTENT_TYPE
        context = {f"ce-{name}": quote(text, safe=_PLAIN) for name, text in attributes.items()}
    else:
        event = {**attributes, "datacontenttype": "application/json", "data": data}
        body, kind, context = to_json({"specversion": "1.0", **event}), JSON_TYPE, {}
    source, event_id, subject = (attributes.get(name, "") for name in ("source", "id", "subject"))
    return Message(
        id=message_id(source, event_id, subject),
        event_id=event_id,
        source=source,
        type=attributes.get("type", ""),
        subject=subject,
        published_at=attributes.get("recordedtime"),
        body=body,
        content_type=kind,
        headers=context,
        trace=hop_of(headers, attributes),
    )


def single(message: Message, cursor: int) -> Post:
    """Return the request of one event: its webhook id stands for the event's identity."""
    return Post(message.id, cursor, message.content_type, message.headers, message.body)


def batch(messages: Sequence[Message], cursor: int) -> Post:
    """Return the request of several events as a CloudEvents JSON batch, oldest first; its id is made of theirs."""
    ids = hashlib.sha256("\n".join(message.id for message in messages).encode()).hexdigest()
    body = b"[" + b",".join(message.body for message in messages) + b"]"
    return Post(f"batch-{ids[:32]}", cursor, BATCH_TYPE, {}, body)
