"""Answers from the logs: why an agency got an event or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from schemas.codec import UndecodableValue
from schemas.contracts import Contracts
from schemas.reading import Unreadable, event_attributes
from schemas.registry_client import RegistryError
from schemas.times import parse_time
from schemas.topics import EVENT_PARTITIONS, Topics
from services.portal.trying import Seeing, agency_of, subscription_of
from services.routing.explain import explained
from services.routing.fields import policy_of
from services.routing.redaction import PolicyFailedError
from services.runtime.clock import Clock
from services.runtime.errors import NotFoundError
from services.runtime.kafka.port import Kafka, Partition, Record
from services.runtime.kafka.scanning import scan
from services.subscriptions.control import Agency
from services.subscriptions.grants import GrantRepository
from services.subscriptions.repository import AgencyRepository

RECEIPT_PARTITIONS = 6


class Explaining:
    """Reads the logs for people."""

    def __init__(
        self,
        kafka: Kafka,
        topics: Topics,
        contracts: Contracts,
        seeing: Seeing,
        grants: GrantRepository,
        agencies: AgencyRepository,
        clock: Clock,
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._contracts = contracts
        self._seeing = seeing
        self._grants = grants
        self._agencies = agencies
        self._clock = clock

    def explain(
        self,
        event_id: str,
        agency: str,
        source: str | None = None,
        owns: Callable[[str], bool] = lambda _: True,
    ) -> dict[str, Any]:
        """Return what became of an event at an agency and why; raises NotFoundError.

        What the ledger says is answered even when the event itself is no longer kept. ``then`` is what the grants as
        they stood when it was published say of it, ``now`` what they say as they stand. Unless whoever asks ``owns``
        the type, grants that nobody has approved are tried on public fields alone.
        """
        entries = list(self._entries(event_id, source))
        routed = next((e for e in entries if e["verdict"] == "routed"), entries[0] if entries else None)
        if routed is None:
            raise NotFoundError(f"台账上没有事件 {event_id} (no such event on the ledger)")
        entries = [one for one in entries if one["identity"] == routed["identity"]]
        found = self.explain_entries(agency, entries, owns)
        receipts = self._receipts(agency, event_id, found.pop("attributes"))
        return found | {"delivered": receipts}

    def explain_entries(
        self, agency: str, entries: Sequence[Mapping[str, Any]], owns: Callable[[str], bool] = lambda _: True
    ) -> dict[str, Any]:
        """Return the same from what the router noted of one event, for whoever has found that already.

        Without ``delivered``, which takes reading the receipts; with the event's ``attributes``.
        """
        routed = next((e for e in entries if e["verdict"] == "routed"), entries[0])
        known = self._known(agency)
        record = self._record(routed)
        contract = self._contracts.types.get(routed["type"])
        attributes = _attributes(record, routed)
        rows = [row for row in self._grants.list() if agency in (row["agency"], *row["forward_to"])]
        now, whole = self._clock.now(), owns(routed["type"])

        def say(row: Mapping[str, Any], at: datetime) -> dict[str, Any]:
            subscription = subscription_of(row)
            decode = self._decode(record, row, whole=whole)
            return explained(subscription, agency, known, contract, attributes, decode, at) | {"state": row["state"]}

        published = parse_time(attributes.get("recordedtime") or attributes["time"])[0] if "time" in attributes else now
        then = [found for row in rows if (found := self._as_of(row, published)) is not None]
        return {
            "event": {name: routed[name] for name in ("id", "source", "type", "topic", "partition", "offset")},
            "agency": agency,
            "verdict": routed["verdict"],
            "reason": routed.get("reason"),
            "kept": record is not None,
            "original": routed.get("original", True),
            "got": [self._got(entry, agency, contract) for entry in entries if _concerns(entry, agency)],
            "withheld": [
                {"subscription": name, "reason": reason, "config": entry["config"]}
                for entry in entries
                for name, reason in _withheld(entry, agency)
            ],
            "attributes": attributes,
            "then": [say(row, published) for row in then] if record is not None else [],
            "now": [say(row, now) for row in rows] if record is not None else [],
        }

    def _as_of(self, row: Mapping[str, Any], at: datetime) -> dict[str, Any] | None:
        """Return a grant as it stood at a time, None when it was not yet approved."""
        decisions = self._grants.get(row["id"])["decisions"]
        versions = [one["version"] for one in decisions if datetime.fromisoformat(one["decided_at"]) <= at]
        found = self._grants.version(row["id"], max(versions)) if versions else None
        return found if found is not None and found["approver"] is not None else None

    def _entries(self, event_id: str, source: str | None) -> Iterator[dict[str, Any]]:
        partitions = [Partition(self._topics.ledger_routed, n) for n in range(EVENT_PARTITIONS)]
        wanted = orjson.dumps({"id": event_id})[1:-1]
        for record in scan(self._kafka, partitions, client_id="explain"):
            if record.value is not None and wanted in record.value:
                entry = orjson.loads(record.value)
                if entry.get("id") == event_id and source in {None, entry.get("source")}:
                    yield entry | {"subject": (record.key or b"").decode(errors="replace")}

    def _record(self, entry: Mapping[str, Any]) -> Record | None:
        """Return the event itself, None when it is no longer kept."""
        partition = Partition(entry["topic"], entry["partition"])
        found = next(iter(scan(self._kafka, [partition], start=entry["offset"], client_id="explain")), None)
        return found if found is not None and found.offset == entry["offset"] else None

    def _decode(self, record: Record | None, row: Mapping[str, Any], *, whole: bool) -> Callable[[], Mapping[str, Any]]:
        see = self._seeing.of(row, whole=whole)

        def decode() -> Mapping[str, Any]:
            try:
                return see(record.value) if record is not None else {}
            except (UndecodableValue, RegistryError, PolicyFailedError):
                return {}

        return decode

    def _got(self, entry: Mapping[str, Any], agency: str, contract: Any) -> dict[str, Any]:  # noqa: ANN401
        subscriptions = entry["agencies"].get(agency, [])
        versions = {name: entry.get("versions", {}).get(name) for name in subscriptions}
        documents = {
            name: self._grants.version(name, version) for name, version in versions.items() if version is not None
        }
        policy = entry.get("fields", {}).get(agency, "")
        known = {s.policy(): s.fields for s in map(subscription_of, self._grants.list()) if s.fields is not None}
        fields = policy_of(policy, known).listing(contract.schema) if policy and contract is not None else None
        return {
            "how": "follow-up" if agency in entry["follow_up"] else entry["verdict"],
            "versions": versions,
            "approved_by": {name: document["approver"] for name, document in documents.items() if document},
            "basis": {name: document["basis"] for name, document in documents.items() if document},
            "policy": policy or None,
            "fields": fields,
            "config": entry["config"],
            "failed": sorted(set(entry.get("failed", ())) & set(subscriptions)),
        }

    def _receipts(self, agency: str, event_id: str, attributes: Mapping[str, str]) -> list[dict[str, Any]]:
        partitions = [Partition(self._topics.receipts, n) for n in range(RECEIPT_PARTITIONS)]
        wanted = orjson.dumps({"event_id": event_id})[1:-1]
        found = []
        for record in scan(self._kafka, partitions, client_id="explain"):
            if record.key == agency.encode() and record.value is not None and wanted in record.value:
                receipt = orjson.loads(record.value)
                if all(receipt.get(name) == attributes.get(name) for name in ("source", "subject")):
                    found.append({n: receipt.get(n) for n in ("cursor", "outcome", "attempts", "last_at", "reason")})
        return found

    def _known(self, agency: str) -> dict[str, Agency]:
        """Return all agencies by id; raises NotFoundError when this is none of them."""
        found = {one.id: one for one in map(agency_of, self._agencies.list())}
        if agency not in found:
            raise NotFoundError(f"没有接收单位 {agency} (no such agency)")
        return found


def _concerns(entry: Mapping[str, Any], agency: str) -> bool:
    return agency in entry["agencies"] or agency in entry["follow_up"]


def _withheld(entry: Mapping[str, Any], agency: str) -> Iterator[tuple[str, str]]:
    """Give by which grants an agency would have got an event that was withheld from it, and why it was."""
    if agency in entry.get("withheld_from", ()):
        yield entry["subscription"], entry["reason"]
    held = entry.get("withheld", {}).get(agency)
    if held is not None:
        yield ", ".join(held["subscriptions"]), held["reason"]


def _attributes(record: Record | None, entry: Mapping[str, Any]) -> Mapping[str, str]:
    """Return an event's attributes; what the ledger knows of them where the event is not kept or is none."""
    found = event_attributes(record.key, record.headers) if record is not None else None
    if found is not None and not isinstance(found, Unreadable):
        return found
    return {name: entry[name] for name in ("id", "source", "type", "time", "subject") if entry.get(name)}
