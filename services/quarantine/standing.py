"""Whether an event may still be told: what has ended, been restored or been corrected since must not be told again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import orjson

from schemas.contracts import Contracts
from schemas.topics import EVENT_PARTITIONS, Topics
from services.delivery.standing import Later, superseded
from services.runtime.kafka.port import Kafka, Partition
from services.runtime.kafka.scanning import scan


@dataclass(frozen=True, slots=True)
class Asked:
    """An event, as its headers and key name it."""

    source: str
    event_id: str
    type: str
    key: bytes


class Standing:
    """Asks the ledger of all routed events; each is read once however many are asked for."""

    def __init__(self, kafka: Kafka, topics: Topics, contracts: Contracts) -> None:
        self._kafka = kafka
        self._topics = topics
        self._effects = contracts.effects()
        self._follow_up_types = contracts.follow_up_types()

    def superseded(self, asked: Collection[Asked]) -> dict[Asked, str]:
        """Return those that no longer tell the current state, each with the id of what took its place."""
        later = self._later(asked)
        found = {one: superseded(self._effects.get(one.type), later[one]) for one in asked}
        return {one: by for one, by in found.items() if by is not None}

    def _later(self, asked: Collection[Asked]) -> dict[Asked, list[Later]]:
        by_key: dict[bytes, list[Asked]] = {}
        for one in asked:
            by_key.setdefault(one.key, []).append(one)
        seen: dict[Asked, str] = {}
        later: dict[Asked, list[Later]] = {one: [] for one in asked}
        partitions = [Partition(self._topics.ledger_routed, n) for n in range(EVENT_PARTITIONS)]
        for record in scan(self._kafka, partitions, client_id="standing") if asked else ():
            wanted = by_key.get(record.key or b"")
            if not wanted:
                continue
            entry = orjson.loads(record.value or b"{}")
            if entry.get("verdict") != "routed":
                continue
            follows_up = entry["type"] in self._follow_up_types or "follows" in entry
            for one in wanted:
                if (entry["source"], entry["id"]) == (one.source, one.event_id):
                    seen[one] = entry["topic"]
                elif seen.get(one) == entry["topic"]:
                    later[one].append(Later(entry["id"], self._effects.get(entry["type"]), follows_up))
        return later
