"""The CloudEvents 1.0 envelope and its Kafka binary mode: attributes are ``ce_`` headers, data is the value.

Source: CloudEvents 1.0.2, Kafka Protocol Binding 1.0.2 §3.2 and HTTP Protocol Binding 1.0.2 §3.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

Headers = list[tuple[str, bytes]]

SPEC_VERSION = "1.0"
PREFIX = "ce_"
IDENTITY_BYTES = 16
CONTENT_TYPE = "content-type"
AVRO_CONTENT_TYPE = "application/vnd.confluent.avro"
_AVRO = AVRO_CONTENT_TYPE.encode()
RECEIVERS = "receivers"
RECEIVERS_SEPARATOR = ","
_RECEIVERS = re.compile(r"^[a-z0-9][a-z0-9-]*(,[a-z0-9][a-z0-9-]*)*$")
REQUIRED = ("id", "source", "type", "subject", "time")
_NAMED = (*REQUIRED, "dataschema", "division", "recordedtime", "traceparent", "follows")
ATTRIBUTES = frozenset({"specversion", *_NAMED, RECEIVERS})
"""What an event of ours may be asked for by name, in filters."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """The context attributes of one event. Times are RFC 3339 text with an offset.

    ``(source, id, subject)`` is the identity; ``subject`` is the business key and the record key; ``division`` is a
    GB/T 2260 code; ``recordedtime`` is when Hongyan accepted the event (publication); ``follows`` is the id of the
    event that this one corrects, recalls, revokes or removes. ``extensions`` holds any other attribute; ``receivers``
    among them names the only agencies that the event may go to.
    """

    id: str
    source: str
    type: str
    subject: str
    time: str
    dataschema: str | None = None
    division: str | None = None
    recordedtime: str | None = None
    traceparent: str | None = None
    follows: str | None = None
    extensions: Mapping[str, str] = field(default_factory=dict)

    def attributes(self) -> dict[str, str]:
        """Return every attribute that is set, ``specversion`` included, extensions flat beside the named ones."""
        named = {name: value for name in _NAMED if (value := getattr(self, name)) is not None}
        return {"specversion": SPEC_VERSION, **named, **self.extensions}

    def to_headers(self) -> Headers:
        """Return the record headers of Kafka binary mode, the content type among them."""
        return binary_headers(self.attributes())

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, str]) -> Envelope:
        """Build an envelope from flat attributes; raises ValueError that names every required attribute missing."""
        missing = [name for name in REQUIRED if not attributes.get(name)]
        if missing:
            raise ValueError(f"CloudEvents attribute missing: {', '.join(missing)}")
        named = {name: attributes[name] for name in _NAMED if name in attributes}
        extensions = {k: v for k, v in attributes.items() if k not in _NAMED and k != "specversion"}
        return cls(**named, extensions=extensions)

    @classmethod
    def from_headers(cls, headers: Iterable[tuple[str, bytes | None]]) -> Envelope:
        """Read the record headers; raises ValueError (UnicodeDecodeError among them) when they are no event's."""
        return cls.from_attributes(header_attributes(headers))


def identity(source: str, event_id: str, subject: str) -> bytes:
    """Return what stands for an event's identity everywhere: a digest of source, id and business key.

    With the business key: the same id under another key lies in another partition, where nobody remembers it.
    """
    return blake2b(f"{source}\0{event_id}\0{subject}".encode(), digest_size=IDENTITY_BYTES).digest()


def identity_of(attributes: Mapping[str, str]) -> bytes:
    """Return the identity of an event by its attributes, which must be complete."""
    return identity(attributes["source"], attributes["id"], attributes["subject"])


def message_id(source: str, event_id: str, subject: str) -> str:
    """Return the identity as a message's id, which no other publisher's event can have: ``evt_`` and 32 hex digits."""
    return f"evt_{identity(source, event_id, subject).hex()}"


def message_id_of(headers: Iterable[tuple[str, bytes | None]]) -> str:
    """Return a record's message id, also of one that is no whole event: what it doesn't say is empty."""
    named = {key: value.decode(errors="replace") for key, value in headers if value is not None}
    source, event_id, subject = (named.get(PREFIX + name, "") for name in ("source", "id", "subject"))
    return message_id(source, event_id, subject)


def is_receivers(text: str) -> bool:
    """Tell whether text is a value of the attribute ``receivers``: ids of agencies, parted by commas."""
    return _RECEIVERS.match(text) is not None


def binary_headers(attributes: Mapping[str, str]) -> Headers:
    """Return the record headers of Kafka binary mode for flat attributes that are known to be complete."""
    headers = [(PREFIX + name, value.encode()) for name, value in attributes.items()]
    headers.append((CONTENT_TYPE, _AVRO))
    return headers


def header_attributes(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """Return the CloudEvents attributes among record headers, unchecked; the router's quick path."""
    return {key[3:]: value.decode() for key, value in headers if value is not None and key.startswith(PREFIX)}
