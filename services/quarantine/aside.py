"""A record put aside with what is said of it; one that has become too large for that leaves a pointer to itself."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.envelope import PREFIX
from schemas.reading import MAX_TEXT_BYTES
from schemas.topics import STORED_MAX_BYTES, record_bytes
from services.runtime.errors import NotFoundError
from services.runtime.kafka.port import HeaderList, Kafka, Partition, Record
from services.runtime.kafka.scanning import scan

LEFT_OUT = "hongyan-value-left-out"
"""How many bytes the value has that is not here; the ``hongyan-original-`` headers name the record that holds it."""
DECIDED = "hongyan-decided"
"""Somebody wanted it put aside: nobody has to see to it."""
REASON_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Aside:
    """A record as it is put aside."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def aside(record: Record, ours: HeaderList) -> Aside:
    """Return the whole record, behind its headers ours and where it stands; a pointer where that is too large."""
    headers = [*record.headers, *_told(record, ours)]
    if record_bytes(record.key, record.value, headers) > STORED_MAX_BYTES:
        return pointer(record, ours)
    # A record without key and value can't be sent as it was; the empty key keeps the rest of it.
    key = record.key if record.key is not None or record.value is not None else b""
    return Aside(key, record.value, headers)


def pointer(record: Record, ours: HeaderList) -> Aside:
    """Return the record without its value, and without what else of it is long: of its headers the event's alone."""
    kept = [(n, v) for n, v in record.headers if n.startswith(PREFIX) and len(v or b"") <= MAX_TEXT_BYTES]
    left_out = (LEFT_OUT, str(len(record.value or b"")).encode())
    key = record.key if len(record.key or b"") <= MAX_TEXT_BYTES else None
    return Aside(key, b"", [*kept[:64], *_told(record, ours), left_out])


def _told(record: Record, ours: HeaderList) -> HeaderList:
    return [
        *((name, text[:REASON_BYTES]) for name, text in ours),
        ("hongyan-original-topic", record.topic.encode()),
        ("hongyan-original-partition", str(record.partition).encode()),
        ("hongyan-original-offset", str(record.offset).encode()),
    ]


def original(kafka: Kafka, topic: str, partition: int, offset: int) -> Record | None:
    """Return the record that stands there; None when it is no longer kept. Raises UnavailableError."""
    found = scan(kafka, [Partition(topic, partition)], start=offset, client_id="original", most=1)
    return next((record for record in found if record.offset == offset), None)


def whole(kafka: Kafka, record: Record) -> Record:
    """Return a record put aside, or where it is a pointer the one that it points at; raises NotFoundError."""
    headers = dict(record.headers)
    if LEFT_OUT not in headers:
        return record
    named = (headers[f"hongyan-original-{part}"].decode() for part in ("topic", "partition", "offset"))
    topic, partition, offset = named
    found = original(kafka, topic, int(partition), int(offset))
    if found is None:
        raise NotFoundError(f"原记录 {topic}/{partition}/{offset} 已不再保存 (the original is no longer kept)")
    return found
