"""Answers from the logs: how far a backfill is, and who has not acknowledged a correction, recall or removal yet."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import orjson

from schemas.contracts import Contracts
from schemas.envelope import identity
from schemas.times import SHANGHAI, parse_time
from schemas.topics import EVENT_PARTITIONS, Topics
from schemas.working_days import CalendarEndsError, add_working_days
from services.portal.explaining import RECEIPT_PARTITIONS
from services.runtime.clock import Clock
from services.runtime.kafka.port import Kafka, Partition
from services.runtime.kafka.scanning import scan

ORDER = ("delivered", "parked", "rejected", "accepted")
"""A later one says more: the agency's own word stands above the delivery."""


class Tracking:
    """Reads the logs for people."""

    def __init__(self, kafka: Kafka, topics: Topics, contracts: Contracts, clock: Clock) -> None:
        self._kafka = kafka
        self._topics = topics
        self._contracts = contracts
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

    def follow_ups(self, *, open_only: bool = True, overdue_only: bool = False) -> list[dict[str, Any]]:
        """Return each follow-up with each agency that must have it, what it has said, and the legal deadline.

        Open is what the agency has not accepted; delivered is not acknowledged. The deadline counts working days from
        the day of the act, and is the end of that day in Shanghai.
        """
        said = self._said()
        now = self._clock.now()
        found = []
        for entry in self._follow_up_entries():
            deadline = self._deadline(entry)
            for agency in (*entry["agencies"], *entry["follow_up"]):
                state = said.get((agency, entry["identity"]), "underway")
                overdue = deadline is not None and now.astimezone(SHANGHAI).date() > deadline
                if (open_only and state == "accepted") or (overdue_only and not overdue):
                    continue
                found.append(
                    {
                        "event": entry["id"],
                        "source": entry["source"],
                        "type": entry["type"],
                        "time": entry["time"],
                        "agency": agency,
                        "state": state,
                        "deadline": deadline.isoformat() if deadline else None,
                        "overdue": overdue and state != "accepted",
                    }
                )
        return sorted(found, key=lambda row: (row["deadline"] or "9999", row["time"] or "", row["agency"]))

    def _follow_up_entries(self) -> list[dict[str, Any]]:
        types = self._contracts.follow_up_types()
        partitions = [Partition(self._topics.ledger_routed, n) for n in range(EVENT_PARTITIONS)]
        entries: dict[str, dict[str, Any]] = {}
        for record in scan(self._kafka, partitions, client_id="follow-ups"):
            entry = orjson.loads(record.value or b"{}")
            if entry.get("verdict") not in {"routed", "backfilled"}:
                continue
            if entry["type"] in types or "follows" in entry:
                held = entries.setdefault(entry["identity"], entry)
                held["follow_up"] = [
                    *{*held["follow_up"], *entry["follow_up"], *entry["agencies"]} - {*held["agencies"]}
                ]
        return list(entries.values())

    def _said(self) -> dict[tuple[str, str], str]:
        partitions = [Partition(self._topics.receipts, n) for n in range(RECEIPT_PARTITIONS)]
        said: dict[tuple[str, str], str] = {}
        for record in scan(self._kafka, partitions, client_id="follow-ups"):
            receipt = orjson.loads(record.value or b"{}")
            outcome = receipt.get("outcome")
            if outcome in ORDER:
                about = identity(receipt["source"], receipt["event_id"], receipt["subject"] or "")
                key = receipt["agency"], about.hex()
                said[key] = max(said.get(key, outcome), outcome, key=ORDER.index)
        return said

    def _deadline(self, entry: Mapping[str, Any]) -> date | None:
        contract = self._contracts.types.get(entry["type"])
        days = contract.catalogue.deadline_working_days if contract is not None else None
        if days is None or not entry.get("time"):
            return None
        try:
            return add_working_days(parse_time(entry["time"])[0].astimezone(SHANGHAI).date(), days)
        except (CalendarEndsError, ValueError):
            return None  # shown without a deadline, never with a guessed one
