"""How far a backfill is (from the log), and who has not acknowledged a follow-up yet (from the ledger's database)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import orjson

from schemas.contracts import Contracts
from schemas.times import SHANGHAI
from schemas.topics import EVENT_PARTITIONS, Topics
from services.ledger.deadlines import deadline_of
from services.ledger.reading import FOLLOW_UP_WINDOW, LedgerReader
from services.runtime.clock import Clock
from services.runtime.kafka.port import Kafka, Partition
from services.runtime.kafka.scanning import scan


class Tracking:
    """Answers people."""

    def __init__(self, kafka: Kafka, topics: Topics, contracts: Contracts, ledger: LedgerReader, clock: Clock) -> None:
        self._kafka = kafka
        self._topics = topics
        self._contracts = contracts
        self._ledger = ledger
        self._clock = clock

    def backfill(self, subscription: str, types: list[str]) -> dict[str, Any]:
        """Return how far a subscription's backfill is, over all the partitions that it reads."""
        start = f"{subscription}/".encode()
        rows: dict[bytes, dict[str, Any]] = {}
        for record in scan(self._kafka, [Partition(self._topics.control_backfill, 0)], client_id="progress"):
            if record.key is not None and record.key.startswith(start) and record.value is not None:
                rows[record.key] = orjson.loads(record.value)
        domains = {self._contracts.types[name].domain for name in types if name in self._contracts.types}
        of = EVENT_PARTITIONS * len(domains)
        done = sum(row["done"] for row in rows.values())
        whole = sum(row["seam"] - row["start"] for row in rows.values())
        read = sum(min(row["next"], row["seam"]) - row["start"] for row in rows.values())
        # What no router has begun yet counts as unread, in equal shares.
        share = (read / whole if whole else 1.0) * len(rows) / of if of else 1.0
        return {
            "percent": 100.0 if done == of else round(min(99.9, 100 * share), 1),
            "done": done == of,
            "partitions_done": done,
            "partitions": of,
            "read": read,
            "routed": sum(row["routed"] for row in rows.values()),
            "withheld": sum(row["withheld"] for row in rows.values()),
            "failed": sum(row.get("failed", 0) for row in rows.values()),
            "at": max((row["at"] for row in rows.values()), default=None),
        }

    def follow_ups(
        self, *, open_only: bool = True, overdue_only: bool = False, since: datetime | None = None
    ) -> list[dict[str, Any]]:
        """Return each follow-up with each agency that must have it, what it has said, and the legal deadline.

        Those of the last 92 days, or since a moment: the whole ledger takes long to look through.

        Open is what the agency has not accepted; delivered is not acknowledged. The deadline counts working days from
        the day of the act, and is the end of that day in Shanghai. Raises SearchTooWideError.
        """
        now, types = self._clock.now(), self._contracts.follow_up_types()
        found = self._ledger.follow_ups(types, open_only=open_only, since=since or now - FOLLOW_UP_WINDOW)
        rows = [self._row(one, now.astimezone(SHANGHAI).date()) for one in found]
        rows = [row for row in rows if row["overdue"] or not overdue_only]
        return sorted(rows, key=lambda row: (row["deadline"] or "9999", row["time"] or "", row["agency"] or ""))

    def _row(self, found: Mapping[str, Any], today: date) -> dict[str, Any]:
        contract = self._contracts.types.get(found["type"])
        days = contract.catalogue.deadline_working_days if contract is not None else None
        deadline = deadline_of(found["time"], days)
        late = deadline.day is not None and today > deadline.day and found["state"] not in {"accepted", "nobody"}
        return {
            **found,
            "time": found["time"].astimezone(SHANGHAI).isoformat() if found["time"] else None,
            "deadline": deadline.day.isoformat() if deadline.day else None,
            "no_deadline": deadline.why,
            "overdue": late,
        }
