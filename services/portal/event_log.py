"""One event on the log, found by the place that the ledger knows: its record, and what the router noted of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson

from schemas.topics import Topics
from services.runtime.kafka.port import Kafka, Partition, Record
from services.runtime.kafka.scanning import scan

AROUND = timedelta(seconds=1)
WITHIN = timedelta(seconds=30)
"""The router notes an event at most so long after the time that it gives."""


class EventLog:
    """Reads single events for people, without reading what lies around them. Raises UnavailableError."""

    def __init__(self, kafka: Kafka, topics: Topics) -> None:
        self._kafka = kafka
        self._topics = topics

    def record(self, story: Mapping[str, Any]) -> Record | None:
        """Return the event itself, None when it is no longer kept."""
        place, offset = Partition(story["topic"], story["partition"]), story["offset"]
        found = next(iter(scan(self._kafka, [place], start=offset, client_id="event", most=1)), None)
        return found if found is not None and found.offset == offset else None

    def entry(self, story: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what the router noted when it routed the event; None when that is no longer kept."""
        routed_at: datetime | None = story.get("routed_at")
        if routed_at is None:
            return None
        place = Partition(self._topics.ledger_routed, story["partition"])
        first_ms = int((routed_at - AROUND).timestamp() * 1000)
        last_ms = int((routed_at + WITHIN).timestamp() * 1000)
        for record in scan(self._kafka, [place], since_ms=first_ms, client_id="event-entry"):
            if record.timestamp > last_ms:
                return None
            entry: dict[str, Any] = orjson.loads(record.value or b"{}")
            named = (entry.get("id"), entry.get("source"), entry.get("verdict"))
            if named == (story["id"], story["source"], story["verdict"]) and entry["offset"] == story["offset"]:
                return entry | {"subject": (record.key or b"").decode(errors="replace")}
        return None
