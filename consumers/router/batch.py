"""One batch of the router: decide for each record, and send what the decisions ask for. No loop, no commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from consumers.router.memory import Memory, Scope, agencies_from_bytes, agencies_to_bytes
from consumers.router.reading import Incoming, SchemaNames, Unreadable, read
from schemas.codec import Decoded, UndecodableValue
from schemas.envelope import RECEIVERS
from schemas.registry_client import RegistryAway
from schemas.topics import Topics
from services.routing.matching import Matcher
from services.runtime.errors import RegistryUnavailableError
from services.runtime.kafka.port import Record, Sent, TransactionalProducer

Decode = Callable[[bytes], Decoded]


@dataclass(frozen=True, slots=True)
class Plan:
    """What routing goes by while one configuration stands.

    Its version, its matcher, the agencies that are known, the types that follow up, those that name their receivers.
    """

    version: int
    matcher: Matcher
    agencies: frozenset[str]
    follow_up_types: frozenset[str]
    named_receiver_types: frozenset[str] = frozenset()


@dataclass(slots=True)
class BatchState:
    """What a batch has changed, to be remembered once its transaction has committed."""

    changes: dict[bytes, bytes] = field(default_factory=dict)
    ledger: dict[Scope, Sent] = field(default_factory=dict)
    verdicts: Counter[str] = field(default_factory=Counter)


class BatchRouter:
    """Routes batches by a plan, over a transactional producer that has an open transaction."""

    def __init__(
        self, producer: TransactionalProducer, memory: Memory, topics: Topics, schemas: SchemaNames, decode: Decode
    ) -> None:
        self._producer = producer
        self._memory = memory
        self._topics = topics
        self._schemas = schemas
        self._decode = decode
        self._feeds: dict[str, str] = {}

    def route(self, scope: Scope, records: Sequence[Record], plan: Plan, state: BatchState) -> None:
        """Route the records of one partition in their order; raises UnavailableError: then nothing may commit."""
        readings = [read(record, self._schemas) for record in records]
        known = self._recall(scope, records, readings, state)
        for record, reading in zip(records, readings, strict=True):
            if isinstance(reading, Unreadable):
                self._dead_letter(scope, record, None, reading.reason, plan, state)
            else:
                self._route_event(scope, record, reading, plan, known, state)

    def _recall(
        self, scope: Scope, records: Sequence[Record], readings: Sequence[Incoming | Unreadable], state: BatchState
    ) -> dict[bytes, bytes | None]:
        wanted: list[bytes] = []
        for record, reading in zip(records, readings, strict=True):
            if isinstance(reading, Incoming):
                wanted.append(scope.identity(reading.identity))
                wanted.append(scope.key(record.key or b""))
        known = dict(zip(wanted, self._memory.get(wanted), strict=True)) if wanted else {}
        # A partition's records may come in two polls of one batch: what the first changed is newer than the store.
        known.update((key, state.changes[key]) for key in known.keys() & state.changes.keys())
        return known

    def _route_event(
        self,
        scope: Scope,
        record: Record,
        event: Incoming,
        plan: Plan,
        known: dict[bytes, bytes | None],
        state: BatchState,
    ) -> None:
        seen_at = scope.identity(event.identity)
        seen = known[seen_at]
        if seen is not None:
            self._repeat(scope, record, event, seen, plan, state)
            return
        if RECEIVERS not in event.attributes and event.attributes["type"] in plan.named_receiver_types:
            reason = "events of this type go to named receivers only, and this one has no attribute receivers"
            self._dead_letter(scope, record, event, reason, plan, state)
            return
        body = record.value or b""
        try:
            matched = plan.matcher.match(event.attributes, lambda: self._decode(body).data)
        except UndecodableValue as error:
            self._dead_letter(scope, record, event, str(error), plan, state)
            return
        except RegistryAway as error:
            raise RegistryUnavailableError(str(error)) from error
        held_at = scope.key(record.key or b"")
        got_before = agencies_from_bytes(known[held_at])
        follow_up = self._follow_up(event.attributes, got_before, matched, plan)
        self._send_to_feeds(record, matched, follow_up)
        self._write_ledger(scope, record, event, "routed", plan, state, matched, follow_up)
        known[seen_at] = state.changes[seen_at] = event.digest
        if not got_before.issuperset(matched):
            known[held_at] = state.changes[held_at] = agencies_to_bytes(got_before.union(matched))

    @staticmethod
    def _follow_up(
        attributes: Mapping[str, str], got_before: frozenset[str], matched: Mapping[str, Sequence[str]], plan: Plan
    ) -> list[str]:
        if not got_before or (attributes["type"] not in plan.follow_up_types and "follows" not in attributes):
            return []
        return sorted(agency for agency in got_before if agency not in matched and agency in plan.agencies)

    def _send_to_feeds(self, record: Record, matched: Mapping[str, Sequence[str]], follow_up: Sequence[str]) -> None:
        headers = list(record.headers)
        for agency, subscriptions in matched.items():
            named = [("hongyan-subscriptions", ",".join(subscriptions).encode()), ("hongyan-reason", b"match")]
            self._send(self._feed(agency), record, headers + named, 0)
        for agency in follow_up:
            named = [("hongyan-subscriptions", b""), ("hongyan-reason", b"follow-up")]
            self._send(self._feed(agency), record, headers + named, 0)

    def _send(self, topic: str, record: Record, headers: list[tuple[str, bytes]], partition: int | None) -> None:
        self._producer.send(
            topic,
            key=record.key,
            value=record.value,
            headers=headers,
            partition=partition,
            timestamp_ms=record.timestamp,
        )

    def _feed(self, agency: str) -> str:
        feed = self._feeds.get(agency)
        if feed is None:
            feed = self._feeds[agency] = self._topics.feed(agency)
        return feed

    def _repeat(
        self, scope: Scope, record: Record, event: Incoming, seen: bytes, plan: Plan, state: BatchState
    ) -> None:
        if seen == event.digest:
            self._write_ledger(scope, record, event, "duplicate", plan, state)
        else:
            reason = "an event with this source and id was accepted before, with other content; the first one stands"
            self._dead_letter(scope, record, event, reason, plan, state, verdict="conflict")

    def _dead_letter(
        self,
        scope: Scope,
        record: Record,
        event: Incoming | None,
        reason: str,
        plan: Plan,
        state: BatchState,
        verdict: str = "deadletter",
    ) -> None:
        headers = [
            *record.headers,
            ("hongyan-stage", b"router"),
            ("hongyan-reason", reason.encode()),
            ("hongyan-verdict", verdict.encode()),
            ("hongyan-original-topic", record.topic.encode()),
            ("hongyan-original-partition", str(record.partition).encode()),
            ("hongyan-original-offset", str(record.offset).encode()),
        ]
        # A record without key and value can't be sent as it was; the empty key keeps the rest of it.
        self._producer.send(
            self._topics.deadletter("router"),
            key=record.key if record.key is not None or record.value is not None else b"",
            value=record.value,
            headers=headers,
            timestamp_ms=record.timestamp,
        )
        self._write_ledger(scope, record, event, verdict, plan, state, reason=reason)

    def _write_ledger(
        self,
        scope: Scope,
        record: Record,
        event: Incoming | None,
        verdict: str,
        plan: Plan,
        state: BatchState,
        matched: Mapping[str, Sequence[str]] | None = None,
        follow_up: Sequence[str] = (),
        reason: str | None = None,
    ) -> None:
        attributes: Mapping[str, str] = event.attributes if event else {}
        entry = {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "source": attributes.get("source"),
            "id": attributes.get("id"),
            "type": attributes.get("type"),
            "identity": event.identity.hex() if event else None,
            "digest": event.digest.hex() if event else None,
            "verdict": verdict,
            "agencies": matched or {},
            "follow_up": follow_up,
            "config": plan.version,
        }
        if reason is not None:
            entry["reason"] = reason
        state.ledger[scope] = self._producer.send(
            self._topics.ledger_routed,
            key=record.key,
            value=orjson.dumps(entry),
            partition=record.partition,
            timestamp_ms=record.timestamp,
        )
        state.verdicts[verdict] += 1
