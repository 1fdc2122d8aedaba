"""What routing writes: events into feeds, each under its field policy, and what became of each onto the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from consumers.router.memory import Scope
from consumers.router.plan import Plan
from consumers.router.reading import Incoming
from schemas.envelope import PREFIX, RECEIVERS
from schemas.reading import MAX_TEXT_BYTES
from schemas.registry_client import RegistryAway
from schemas.topics import STORED_MAX_BYTES, Topics, record_bytes
from schemas.tracing import PARENT, TraceContext
from services.routing.redaction import PolicyFailedError, Redactor, with_dataschema
from services.runtime.clock import Clock
from services.runtime.errors import HongyanError, RegistryUnavailableError
from services.runtime.kafka.port import Record, Sent, TransactionalProducer
from services.runtime.tracing import Span
from services.subscriptions.stopping import SUBSCRIPTIONS

Headers = list[tuple[str, bytes]]
Versions = dict[str, tuple[bytes | None, Headers]]
"""An event's value and headers by the field policy that they are under."""
_RECEIVERS = f"{PREFIX}{RECEIVERS}"
NAMED_BYTES = 80
"""What the names of the router's headers take, with the lengths before them."""


@dataclass(slots=True)
class BatchState:
    """What a batch has changed, to be remembered once its transaction has committed."""

    changes: dict[bytes, bytes] = field(default_factory=dict)
    ledger: dict[Scope, Sent] = field(default_factory=dict)
    verdicts: Counter[str] = field(default_factory=Counter)
    config: int = 0
    spans: list[Span] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Routing:
    """Who gets an event: agencies with the subscriptions that matched, those it follows up, and policies that redact.

    ``effect`` is what the event does to what stands under its key; ``failed`` are subscriptions with an expression
    that could not be evaluated on it.
    """

    matched: Mapping[str, Sequence[str]] = field(default_factory=dict)
    follow_up: Sequence[str] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    effect: str | None = None
    failed: Sequence[str] = ()

    def without(self, policies: Collection[str]) -> Routing:
        """Return what is left without those who would get it under these policies."""
        if not policies:
            return self
        out = {agency for agency, policy in self.fields.items() if policy in policies}
        return replace(
            self,
            matched={agency: names for agency, names in self.matched.items() if agency not in out},
            follow_up=[agency for agency in self.follow_up if agency not in out],
            fields={agency: policy for agency, policy in self.fields.items() if agency not in out},
        )

    def given(self) -> dict[str, str]:
        """Return everybody who gets it, with the policy that it goes under."""
        return {agency: self.fields.get(agency, "") for agency in (*self.matched, *self.follow_up)}


NOBODY = Routing()


class OutsizeError(HongyanError):
    """What would be written is larger than its topic takes: it can never be, and nothing of it was sent."""

    def __init__(self, topic: str, size: int, limit: int) -> None:
        super().__init__(f"it takes {size} bytes of {topic}, which takes records of at most {limit} bytes")


class Limits:
    """How large a record each topic takes: what Hongyan makes topics with, until a broker has refused one."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def learn(self, known: Mapping[str, int]) -> None:
        """Take in what topics really take."""
        self._known = {topic: limit for topic, limit in known.items() if limit < STORED_MAX_BYTES}

    def check(self, topic: str, size: int) -> None:
        """Raise OutsizeError for a record of so many bytes that the topic does not take."""
        limit = self._known.get(topic, STORED_MAX_BYTES) if self._known else STORED_MAX_BYTES
        if size > limit:
            raise OutsizeError(topic, size, limit)


class Feeds:
    """Puts events into agencies' feeds."""

    def __init__(self, producer: TransactionalProducer, topics: Topics, redactor: Redactor, limits: Limits) -> None:
        self._limits = limits
        self._producer = producer
        self._topics = topics
        self._redactor = redactor
        self._names: dict[str, str] = {}

    def redacted(self, record: Record, routing: Routing) -> tuple[Versions, dict[str, str]]:
        """Return value and headers under every policy of a routing; the empty one leaves the event whole.

        A policy that the event can't be written under is left out: the second tells which, and why. Raises
        UndecodableValue, or RegistryUnavailableError: then it must be done again later.
        """
        found: Versions = {"": (record.value, list(record.headers))}
        failed: dict[str, str] = {}
        for policy in set(routing.fields.values()):
            try:
                value, schema_id = self._redactor.redact(record.value or b"", policy)
            except RegistryAway as error:
                raise RegistryUnavailableError(str(error)) from error
            except PolicyFailedError as error:
                failed[policy] = str(error)
                continue
            headers = list(record.headers)
            found[policy] = value, headers if schema_id is None else with_dataschema(headers, schema_id)
        return found, failed

    def send(
        self,
        record: Record,
        routing: Routing,
        plan: Plan,
        versions: Versions,
        reason: bytes | None = None,
        hop: TraceContext | None = None,
    ) -> None:
        """Put the versions of an event into the feeds that a routing names; raises OutsizeError, before anything is
        sent. ``hop`` is the span that they come from, where one is recorded.
        """
        drafts = []
        for agency, subscriptions in routing.matched.items():
            why = reason or plan.reason(agency, subscriptions)
            drafts.append((agency, ",".join(subscriptions), why))
        drafts += [(agency, "", b"follow-up") for agency in routing.follow_up]
        sizes = {name: record_bytes(record.key, *version) for name, version in versions.items()} if drafts else {}
        ready = []
        for agency, subscriptions, why in drafts:
            policy = routing.fields.get(agency, "")
            value, headers = versions[policy]
            if policy:
                # Whoever is not given all fields does not learn from a header who else the event is for.
                headers = [(n, agency.encode()) if n == _RECEIVERS else (n, text) for n, text in headers]
            named = [(SUBSCRIPTIONS, subscriptions.encode()), ("hongyan-reason", why)]
            if hop is not None:
                headers = [(n, text) for n, text in headers if n != PARENT]
                named.append((PARENT, hop.traceparent.encode()))
            feed = self._feed(agency)
            self._limits.check(feed, sizes[policy] + NAMED_BYTES + sum(len(text) for _, text in named))
            ready.append((feed, value, headers + named))
        for feed, value, headers in ready:
            self._producer.send(
                feed, key=record.key, value=value, headers=headers, partition=0, timestamp_ms=record.timestamp
            )

    def _feed(self, agency: str) -> str:
        found = self._names.get(agency)
        if found is None:
            found = self._names[agency] = self._topics.feed(agency)
        return found


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """What is to be put on the ledger, measured, and the configuration that it went by."""

    key: bytes | None
    value: bytes
    config: int


class Ledger:
    """Writes ``ledger.routed``: one record an input event, beside it the seams and the progress of backfills."""

    def __init__(self, producer: TransactionalProducer, topics: Topics, limits: Limits, clock: Clock) -> None:
        self._producer = producer
        self._topic = topics.ledger_routed
        self._limits = limits
        self._clock = clock

    def write(
        self,
        scope: Scope,
        record: Record,
        event: Incoming | None,
        verdict: str,
        plan: Plan,
        state: BatchState,
        routing: Routing = NOBODY,
        **more: object,
    ) -> None:
        """Put on record what became of an event; raises OutsizeError."""
        self.put(scope, record, verdict, self.entry(record, event, verdict, plan, routing, **more), state)

    def entry(
        self,
        record: Record,
        event: Incoming | None,
        verdict: str,
        plan: Plan,
        routing: Routing = NOBODY,
        **more: object,
    ) -> LedgerEntry:
        """Return what is to be put on record; raises OutsizeError, before anything is sent."""
        attributes: Mapping[str, str] = event.attributes if event else {}
        entry: dict[str, Any] = {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "source": attributes.get("source"),
            "id": attributes.get("id"),
            "type": attributes.get("type"),
            "time": attributes.get("time"),
            "identity": event.identity.hex() if event else None,
            "digest": event.digest.hex() if event else None,
            "verdict": verdict,
            "agencies": routing.matched,
            "follow_up": routing.follow_up,
            "config": plan.version,
            "logged": record.timestamp,
            "at": self._clock.now().isoformat(),
        }
        if routing.matched and plan.subscriptions:
            names = {name for subscriptions in routing.matched.values() for name in subscriptions}
            entry["versions"] = {name: plan.subscriptions[name].version for name in names}
        if "follows" in attributes:
            entry["follows"] = attributes["follows"]
        for name, value in (("fields", routing.fields), ("effect", routing.effect), ("failed", routing.failed)):
            if value:
                entry[name] = value
        # What is no event may have any key; that one of an event is short.
        key = record.key if event or len(record.key or b"") <= MAX_TEXT_BYTES else None
        written = orjson.dumps(entry | more)
        self._limits.check(self._topic, record_bytes(key, written, ()))
        return LedgerEntry(key, written, plan.version)

    def put(self, scope: Scope, record: Record, verdict: str, entry: LedgerEntry, state: BatchState) -> None:
        """Write an entry."""
        self._put(scope, entry, state, record.timestamp)
        state.verdicts[verdict] += 1

    def note(
        self, scope: Scope, verdict: str, subscription: str, progress: Mapping[str, Any], plan: Plan, state: BatchState
    ) -> None:
        """Put on record where a subscription's backfill of a partition stands."""
        topic, partition = scope.partition
        entry = {
            "topic": topic,
            "partition": partition,
            "verdict": verdict,
            "subscription": subscription,
            "progress": progress,
            "config": plan.version,
        }
        self._put(scope, LedgerEntry(subscription.encode(), orjson.dumps(entry), plan.version), state, None)
        state.changes[scope.backfill(subscription)] = orjson.dumps(progress)

    def _put(self, scope: Scope, entry: LedgerEntry, state: BatchState, timestamp: int | None) -> None:
        state.config = max(state.config, entry.config)
        state.ledger[scope] = self._producer.send(
            self._topic,
            key=entry.key,
            value=entry.value,
            partition=scope.partition.partition,
            timestamp_ms=timestamp,
        )
