"""Parked events: what an agency refused for good. Nothing is deleted; a replay puts an event back into the feed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import orjson

from schemas.topics import Topics
from services.quarantine.aside import whole
from services.runtime.clock import Clock
from services.runtime.errors import NotFoundError
from services.runtime.kafka.port import HeaderList, Kafka, Partition, Record

WAIT_S = 10.0
IDLE_POLLS = 30
REPLAYED = "hongyan-replayed-offset"
_OURS = "hongyan-"


@dataclass(frozen=True, slots=True)
class Parked:
    """One parked event, as people see it."""

    agency: str
    offset: int
    event_id: str
    type: str
    subject: str
    status: str
    reason: str
    parked_at: str
    replayed: str | None

    def to_json(self) -> dict[str, object]:
        """Return it as JSON values."""
        return asdict(self)


class ParkingPlace:
    """The parked events of the agencies."""

    def __init__(self, kafka: Kafka, topics: Topics, clock: Clock) -> None:
        self._kafka = kafka
        self._topics = topics
        self._clock = clock

    def agencies(self) -> list[str]:
        """Return the agencies that have a parking place."""
        start = self._topics.parked("")
        admin = self._kafka.admin()
        try:
            return sorted(name.removeprefix(start) for name in admin.list_topics() if name.startswith(start))
        finally:
            admin.close()

    def list(self, agency: str) -> list[Parked]:
        """Return an agency's parked events, oldest first, those replayed since marked with the reason."""
        records = list(self._read(agency))
        replayed = {
            int(headers[REPLAYED]): orjson.loads(record.value or b"{}").get("reason", "")
            for record in records
            if REPLAYED in (headers := dict(record.headers))
        }
        return [_parked(agency, r, replayed.get(r.offset)) for r in records if REPLAYED not in dict(r.headers)]

    def replay(self, agency: str, offset: int, reason: str) -> None:
        """Put a parked event back at the end of the agency's feed, and note it here; raises NotFoundError.

        One that was too large to be parked whole is taken from where it lay in the feed.

        The event is put back before the note: killed in between, it may be replayed twice but never lost.
        """
        record = next((r for r in self._read(agency) if r.offset == offset), None)
        if record is None or REPLAYED in dict(record.headers):
            raise NotFoundError(f"{agency} 没有位于 {offset} 的停放事件 (nothing is parked there)")
        producer = self._kafka.producer(client_id="parked-replay")
        try:
            told = whole(self._kafka, record)
            headers = [*_original(told.headers), ("hongyan-reason", b"replay"), ("hongyan-subscriptions", b"")]
            producer.send(
                self._topics.feed(agency), key=told.key, value=told.value, headers=headers, partition=0
            ).result(WAIT_S)
            note = {"reason": reason, "at": self._clock.now().isoformat()}
            producer.send(
                self._topics.parked(agency),
                key=record.key,
                value=orjson.dumps(note),
                headers=[(REPLAYED, str(offset).encode())],
                partition=0,
            ).result(WAIT_S)
        finally:
            producer.close()

    def _read(self, agency: str) -> Iterator[Record]:
        partition = Partition(self._topics.parked(agency), 0)
        consumer = self._kafka.consumer(None, client_id="parked")
        try:
            consumer.assign([partition])
            end = consumer.end_offsets([partition])[partition]
            consumer.seek(partition, consumer.beginning_offsets([partition])[partition])
            idle = 0
            while idle < IDLE_POLLS and consumer.position(partition) < end:
                found = consumer.poll(0.2, 500)
                idle = 0 if found else idle + 1
                for records in found.values():
                    yield from records
        finally:
            consumer.close()


def _original(headers: HeaderList) -> HeaderList:
    return [(name, value) for name, value in headers if not name.startswith(_OURS)]


def _parked(agency: str, record: Record, replayed: str | None) -> Parked:
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    return Parked(
        agency=agency,
        offset=record.offset,
        event_id=headers.get("ce_id", ""),
        type=headers.get("ce_type", ""),
        subject=headers.get("ce_subject", ""),
        status=headers.get("hongyan-status", ""),
        reason=headers.get("hongyan-refusal", ""),
        parked_at=headers.get("hongyan-parked-at", ""),
        replayed=replayed,
    )
