"""Sending an agency again what it had since a time: put back at the end of its feed, as a parked event is.

What has ended or been corrected since would be told as if it still stood: it stays out. What still waits in the feed
comes by itself. A receiver knows an event that it had by its id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from schemas.topics import Topics
from services.delivery.cursors import cursor_of
from services.quarantine.parked import WAIT_S, asked_of, put_back
from services.quarantine.standing import Asked, Standing
from services.runtime.errors import FieldProblem, InvalidError, NotFoundError
from services.runtime.kafka.port import Kafka, Partition, Record
from services.runtime.kafka.scanning import scan

MOST = 5000
"""So many events are sent again at once; what is more must be asked for from a later time on."""


@dataclass(frozen=True, slots=True)
class Again:
    """What would be, or was, sent again; ``superseded`` events tell no longer what is."""

    number: int
    superseded: int
    too_many: bool = False


@dataclass(slots=True)
class _Found:
    records: dict[Asked, Record] = field(default_factory=dict)
    too_many: bool = False


class FeedReplay:
    """Puts events back. Raises UnavailableError, and NotFoundError for no agency."""

    def __init__(self, kafka: Kafka, topics: Topics, standing: Standing) -> None:
        self._kafka = kafka
        self._topics = topics
        self._standing = standing

    def look(self, agency: str, since: datetime) -> Again:
        """Return how many would be sent again, without doing so."""
        found = self._find(agency, since)
        gone = self._standing.superseded(set(found.records))
        return Again(len(found.records) - len(gone), len(gone), found.too_many)

    def replay(self, agency: str, since: datetime) -> Again:
        """Send again what an agency had since a time; raises InvalidError where that is too much at once."""
        found = self._find(agency, since)
        if found.too_many:
            raise InvalidError([FieldProblem("/since", f"超过 {MOST} 件，请改用更晚的时刻 (too many: begin later)")])
        gone = self._standing.superseded(set(found.records))
        producer = self._kafka.producer(client_id="feed-replay")
        try:
            sent = [
                put_back(producer, self._topics, agency, record)
                for one, record in found.records.items()
                if one not in gone
            ]
            for outcome in sent:
                outcome.result(WAIT_S)
        finally:
            producer.close()
        return Again(len(sent), len(gone))

    def _find(self, agency: str, since: datetime) -> _Found:
        """Return what the agency had since, each event once, in the order of the feed."""
        feed = Partition(self._topics.feed(agency), 0)
        admin = self._kafka.admin()
        try:
            if feed.topic not in admin.list_topics():
                raise NotFoundError(f"没有接收单位 {agency} (no such agency)")
            reached = cursor_of(admin, self._topics, feed, agency)
        finally:
            admin.close()
        found = _Found()
        for record in scan(self._kafka, [feed], since_ms=int(since.timestamp() * 1000), client_id="feed-replay"):
            if record.offset >= reached:
                break
            one = asked_of(record)
            if one not in found.records and len(found.records) >= MOST:
                found.too_many = True
                break
            found.records.pop(one, None)  # sent again before: the last place counts
            found.records[one] = record
        return found
