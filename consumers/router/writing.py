"""What routing writes: events into feeds, each under its field policy, and what became of each onto the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from consumers.router.memory import Scope
from consumers.router.plan import Plan
from consumers.router.reading import Incoming
from schemas.codec import UndecodableValue
from schemas.registry_client import RegistryAway, RegistryError
from schemas.topics import Topics
from services.routing.redaction import Redactor, with_dataschema
from services.runtime.errors import RegistryUnavailableError
from services.runtime.kafka.port import Record, Sent, TransactionalProducer

Headers = list[tuple[str, bytes]]


@dataclass(slots=True)
class BatchState:
    """What a batch has changed, to be remembered once its transaction has committed."""

    changes: dict[bytes, bytes] = field(default_factory=dict)
    ledger: dict[Scope, Sent] = field(default_factory=dict)
    verdicts: Counter[str] = field(default_factory=Counter)
    config: int = 0


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

    def given(self) -> dict[str, str]:
        """Return everybody who gets it, with the policy that it goes under."""
        return {agency: self.fields.get(agency, "") for agency in (*self.matched, *self.follow_up)}


NOBODY = Routing()


class Feeds:
    """Puts events into agencies' feeds."""

    def __init__(self, producer: TransactionalProducer, topics: Topics, redactor: Redactor) -> None:
        self._producer = producer
        self._topics = topics
        self._redactor = redactor
        self._names: dict[str, str] = {}

    def redacted(self, record: Record, routing: Routing) -> dict[str, tuple[bytes | None, Headers]]:
        """Return value and headers under every policy of a routing; the empty one leaves the event whole.

        Raises UndecodableValue, or RegistryUnavailableError: then it must be done again later.
        """
        found: dict[str, tuple[bytes | None, Headers]] = {"": (record.value, list(record.headers))}
        for policy in set(routing.fields.values()):
            try:
                value, schema_id = self._redactor.redact(record.value or b"", policy)
            except RegistryAway as error:
                raise RegistryUnavailableError(str(error)) from error
            except RegistryError as error:
                raise UndecodableValue(f"policy {policy} makes a schema that the registry refuses: {error}") from error
            headers = list(record.headers)
            found[policy] = value, headers if schema_id is None else with_dataschema(headers, schema_id)
        return found

    def send(self, record: Record, routing: Routing, plan: Plan, reason: bytes | None = None) -> None:
        """Put an event into the feeds that a routing names; raises as ``redacted``, before anything is sent."""
        versions = self.redacted(record, routing)
        for agency, subscriptions in routing.matched.items():
            why = reason or plan.reason(agency, subscriptions)
            self._send(record, agency, versions[routing.fields.get(agency, "")], ",".join(subscriptions), why)
        for agency in routing.follow_up:
            self._send(record, agency, versions[routing.fields.get(agency, "")], "", b"follow-up")

    def _send(
        self, record: Record, agency: str, version: tuple[bytes | None, Headers], subscriptions: str, reason: bytes
    ) -> None:
        value, headers = version
        feed = self._names.get(agency)
        if feed is None:
            feed = self._names[agency] = self._topics.feed(agency)
        named = [("hongyan-subscriptions", subscriptions.encode()), ("hongyan-reason", reason)]
        self._producer.send(
            feed, key=record.key, value=value, headers=headers + named, partition=0, timestamp_ms=record.timestamp
        )


class Ledger:
    """Writes ``ledger.routed``: one record an input event, beside it the seams and the progress of backfills."""

    def __init__(self, producer: TransactionalProducer, topics: Topics) -> None:
        self._producer = producer
        self._topic = topics.ledger_routed

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
        """Put on record what became of an event."""
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
        }
        if routing.matched and plan.subscriptions:
            names = {name for subscriptions in routing.matched.values() for name in subscriptions}
            entry["versions"] = {name: plan.subscriptions[name].version for name in names}
        if "follows" in attributes:
            entry["follows"] = attributes["follows"]
        for name, value in (("fields", routing.fields), ("effect", routing.effect), ("failed", routing.failed)):
            if value:
                entry[name] = value
        self._put(scope, record.key, entry | more, state, record.timestamp)
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
        self._put(scope, subscription.encode(), entry, state, None)
        state.changes[scope.backfill(subscription)] = orjson.dumps(progress)

    def _put(
        self, scope: Scope, key: bytes | None, entry: Mapping[str, Any], state: BatchState, timestamp: int | None
    ) -> None:
        state.config = max(state.config, entry["config"])
        state.ledger[scope] = self._producer.send(
            self._topic,
            key=key,
            value=orjson.dumps(entry),
            partition=scope.partition.partition,
            timestamp_ms=timestamp,
        )
