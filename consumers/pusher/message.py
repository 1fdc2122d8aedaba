"""The body and headers of one delivery: CloudEvents structured JSON with Standard Webhooks headers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from schemas.codec import Decoded, to_jsonable
from schemas.envelope import header_attributes
from services.runtime.kafka.port import Record

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
CURSOR_HEADER = "hongyan-cursor"


@dataclass(frozen=True, slots=True)
class Message:
    """What is posted, the same bytes at every attempt."""

    event_id: str
    source: str
    type: str
    subject: str
    published_at: str | None
    body: bytes

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the body, hex."""
        return hashlib.sha256(self.body).hexdigest()


def message_of(record: Record, decode: Callable[[bytes | None], Decoded]) -> Message:
    """Build the message of a feed's record; raises UndecodableValue, or the registry's retriable error."""
    attributes = header_attributes(record.headers)
    data = to_jsonable(decode(record.value).data)
    event = {"specversion": "1.0", **attributes, "datacontenttype": "application/json", "data": data}
    return Message(
        event_id=attributes.get("id", ""),
        source=attributes.get("source", ""),
        type=attributes.get("type", ""),
        subject=attributes.get("subject", ""),
        published_at=attributes.get("recordedtime"),
        body=orjson.dumps(event),
    )
