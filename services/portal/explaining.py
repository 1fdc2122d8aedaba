"""Answers from the logs: why an agency got an event or not, and what a grant would give, before anyone approves it."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson

from schemas.codec import Codec, UndecodableValue, to_jsonable
from schemas.contracts import Contracts
from schemas.envelope import header_attributes, identity_of
from schemas.registry_client import RegistryAway
from schemas.times import SHANGHAI, happened
from schemas.topics import EVENT_PARTITIONS, Topics
from services.routing.explain import explained
from services.routing.fields import FieldPolicy, policy_of
from services.routing.matching import Matcher
from services.routing.redaction import Redactor
from services.runtime.clock import Clock
from services.runtime.errors import NotFoundError, RegistryUnavailableError
from services.runtime.kafka.port import Kafka, Partition, Record
from services.runtime.kafka.scanning import scan
from services.subscriptions.control import Agency, Subscription
from services.subscriptions.grants import GrantRepository
from services.subscriptions.repository import AgencyRepository, plain

RECEIPT_PARTITIONS = 6
CLOCK_SKEW_MS = 3_600_000
MAX_EVENTS = 5_000_000
"""A dry run reads so many events at most, and says where it stopped."""


@dataclass(frozen=True, slots=True)
class Period:
    """What of the past is tried: events that happened in this time, closed-open."""

    since: datetime
    until: datetime


class Explaining:
    """Reads the logs for people."""

    def __init__(
        self,
        kafka: Kafka,
        topics: Topics,
        contracts: Contracts,
        codec: Codec,
        grants: GrantRepository,
        agencies: AgencyRepository,
        clock: Clock,
        redactor_of: Callable[[FieldPolicy], Redactor],
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._contracts = contracts
        self._codec = codec
        self._grants = grants
        self._agencies = agencies
        self._clock = clock
        self._redactor_of = redactor_of

    def explain(self, event_id: str, agency: str, source: str | None = None) -> dict[str, Any]:
        """Return what became of an event at an agency and why; raises NotFoundError."""
        entries = list(self._entries(event_id, source))
        routed = next((e for e in entries if e["verdict"] == "routed"), entries[0] if entries else None)
        if routed is None:
            raise NotFoundError(f"台账上没有事件 {event_id} (no such event on the ledger)")
        entries = [one for one in entries if one["identity"] == routed["identity"]]
        known = self._known(agency)
        record = self._record(routed)
        attributes = header_attributes(record.headers)
        decode = self._once(record)
        contract = self._contracts.types.get(attributes["type"])
        rows = [row for row in self._grants.list() if agency in (row["agency"], *row["forward_to"])]
        now = self._clock.now()
        return {
            "event": {name: routed[name] for name in ("id", "source", "type", "topic", "partition", "offset")},
            "agency": agency,
            "verdict": routed["verdict"],
            "reason": routed.get("reason"),
            "got": [self._got(entry, agency, contract) for entry in entries if _concerns(entry, agency)],
            "delivered": self._receipts(agency, event_id, attributes),
            "now": [explained(_subscription(row), agency, known, contract, attributes, decode, now) for row in rows],
        }

    def dry_run(self, row: Mapping[str, Any], period: Period, samples: int) -> dict[str, Any]:
        """Return what a grant would have given over a period: how much, on which days, and examples, redacted."""
        subscription = replace(_subscription(row), state="active", valid_from=None, valid_until=None)
        agencies = {a.id: a for a in map(_agency, self._agencies.list())}
        matcher = Matcher([subscription], self._clock.now, agencies, self._contracts.unshared_types())
        found = _Findings(samples)
        for record in self._events(subscription, period, found):
            self._try(record, matcher, period, found)
        return found.to_json() | {
            "subscription": subscription.id,
            "version": subscription.version,
            "from": period.since.isoformat(),
            "to": period.until.isoformat(),
            "samples": [self._sample(record, subscription) for record in found.samples],
        }

    def _events(self, subscription: Subscription, period: Period, found: _Findings) -> Iterator[Record]:
        types = [self._contracts.types[name] for name in subscription.types]
        partitions = [
            Partition(self._topics.events(domain), n)
            for domain in sorted({contract.domain for contract in types})
            for n in range(EVENT_PARTITIONS)
        ]
        since_ms = int(period.since.timestamp() * 1000) - CLOCK_SKEW_MS
        for number, record in enumerate(scan(self._kafka, partitions, since_ms=since_ms, client_id="dry-run")):
            if number >= MAX_EVENTS:
                found.complete = False
                return
            yield record

    def _try(self, record: Record, matcher: Matcher, period: Period, found: _Findings) -> None:
        attributes = header_attributes(record.headers)
        kind, key = attributes.get("type", ""), (record.key or b"", record.topic)
        if self._contracts.effects().get(kind) == "ends":
            found.ended[key] = record.offset
        elif self._contracts.effects().get(kind) == "restores":
            found.ended.pop(key, None)
        if kind not in self._contracts.types:
            return
        at = happened(attributes, record.timestamp)
        if not period.since <= at < period.until:
            return
        found.read += 1
        failed: list[str] = []
        try:
            matched = matcher.match(attributes, lambda: self._codec.decode(record.value).data, failed)
        except UndecodableValue:
            return
        except RegistryAway as error:
            raise RegistryUnavailableError(str(error)) from error
        found.failed += bool(failed)
        if matched and (identity := identity_of(attributes)) not in found.seen:
            found.seen.add(identity)
            found.add(record, kind, at, key)

    def _sample(self, record: Record, subscription: Subscription) -> dict[str, Any]:
        value = record.value or b""
        if subscription.fields is not None:
            policy = FieldPolicy.of(subscription.fields)
            value, _ = self._redactor_of(policy).redact(value, policy.id)
        return {"attributes": header_attributes(record.headers), "data": to_jsonable(self._codec.decode(value).data)}

    def _entries(self, event_id: str, source: str | None) -> Iterator[dict[str, Any]]:
        partitions = [Partition(self._topics.ledger_routed, n) for n in range(EVENT_PARTITIONS)]
        wanted = orjson.dumps({"id": event_id})[1:-1]
        for record in scan(self._kafka, partitions, client_id="explain"):
            if record.value is not None and wanted in record.value:
                entry = orjson.loads(record.value)
                if entry.get("id") == event_id and source in {None, entry.get("source")}:
                    yield entry

    def _record(self, entry: Mapping[str, Any]) -> Record:
        partition = Partition(entry["topic"], entry["partition"])
        found = next(iter(scan(self._kafka, [partition], start=entry["offset"], client_id="explain")), None)
        if found is None or found.offset != entry["offset"]:
            raise NotFoundError(f"事件已不在 {entry['topic']} 上 (the event is no longer kept)")
        return found

    def _once(self, record: Record) -> Callable[[], Mapping[str, Any]]:
        def decode() -> Mapping[str, Any]:
            try:
                return to_jsonable(self._codec.decode(record.value).data)
            except UndecodableValue:
                return {}

        return decode

    def _got(self, entry: Mapping[str, Any], agency: str, contract: Any) -> dict[str, Any]:  # noqa: ANN401
        subscriptions = entry["agencies"].get(agency, [])
        versions = {name: entry.get("versions", {}).get(name) for name in subscriptions}
        documents = {
            name: self._grants.version(name, version) for name, version in versions.items() if version is not None
        }
        policy = entry.get("fields", {}).get(agency, "")
        known = {s.policy(): s.fields for s in map(_subscription, self._grants.list()) if s.fields is not None}
        fields = policy_of(policy, known).listing(contract.schema) if policy and contract is not None else None
        return {
            "how": "follow-up" if agency in entry["follow_up"] else entry["verdict"],
            "versions": versions,
            "approved_by": {name: document["approver"] for name, document in documents.items() if document},
            "basis": {name: document["basis"] for name, document in documents.items() if document},
            "policy": policy or None,
            "fields": fields,
            "config": entry["config"],
        }

    def _receipts(self, agency: str, event_id: str, attributes: Mapping[str, str]) -> list[dict[str, Any]]:
        partitions = [Partition(self._topics.receipts, n) for n in range(RECEIPT_PARTITIONS)]
        wanted = orjson.dumps({"event_id": event_id})[1:-1]
        found = []
        for record in scan(self._kafka, partitions, client_id="explain"):
            if record.key == agency.encode() and record.value is not None and wanted in record.value:
                receipt = orjson.loads(record.value)
                if all(receipt.get(name) == attributes[name] for name in ("source", "subject")):
                    found.append({n: receipt.get(n) for n in ("cursor", "outcome", "attempts", "last_at", "reason")})
        return found

    def _known(self, agency: str) -> dict[str, Agency]:
        """Return all agencies by id; raises NotFoundError when this is none of them."""
        found = {one.id: one for one in map(_agency, self._agencies.list())}
        if agency not in found:
            raise NotFoundError(f"没有接收单位 {agency} (no such agency)")
        return found


class _Findings:
    """What a dry run has found so far."""

    def __init__(self, samples: int) -> None:
        self.read = 0
        self.failed = 0
        self.complete = True
        self.ended: dict[tuple[bytes, str], int] = {}
        self.seen: set[bytes] = set()
        self.samples: deque[Record] = deque(maxlen=samples)
        self._days: Counter[str] = Counter()
        self._types: Counter[str] = Counter()
        self._offsets: dict[tuple[bytes, str], list[int]] = defaultdict(list)

    def add(self, record: Record, kind: str, at: datetime, key: tuple[bytes, str]) -> None:
        """Take in an event that the grant would have given."""
        self._days[at.astimezone(SHANGHAI).date().isoformat()] += 1
        self._types[kind] += 1
        self._offsets[key].append(record.offset)
        self.samples.append(record)

    def to_json(self) -> dict[str, Any]:
        """Return the counts; ``ended_since`` of them a backfill would withhold."""
        ended = sum(offset < self.ended.get(key, -1) for key, offsets in self._offsets.items() for offset in offsets)
        return {
            "read": self.read,
            "matched": sum(self._days.values()),
            "ended_since": ended,
            "failed": self.failed,
            "complete": self.complete,
            "days": dict(sorted(self._days.items())),
            "types": dict(sorted(self._types.items())),
        }


def _concerns(entry: Mapping[str, Any], agency: str) -> bool:
    return agency in entry["agencies"] or agency in entry["follow_up"]


def _subscription(row: Mapping[str, Any]) -> Subscription:
    shown = plain(row)
    return Subscription(**{name: shown[name] for name in Subscription.__dataclass_fields__})


def _agency(row: Mapping[str, Any]) -> Agency:
    return Agency(**{name: row[name] for name in ("id", "name", "division", "sink", "state", "version")})
