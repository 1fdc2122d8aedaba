"""One batch of the router: decide for each record, and send what the decisions ask for. No loop, no commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from consumers.router.alarms import PolicyAlarms
from consumers.router.memory import NOTHING, First, Given, Held, Memory, Scope
from consumers.router.plan import Plan
from consumers.router.reading import Incoming, SchemaNames, read
from consumers.router.traces import RouteSpans
from consumers.router.writing import BatchState, Feeds, Ledger, Limits, OutsizeError, Routing
from schemas.codec import Decoded, UndecodableValue
from schemas.envelope import RECEIVERS
from schemas.reading import Unreadable
from schemas.registry_client import RegistryAway, SchemaUnknown
from schemas.topics import PROBE_AGENCY, Topics, record_bytes
from services.quarantine.aside import aside, pointer
from services.routing.fields import union_id
from services.routing.redaction import Redactor
from services.runtime.clock import Clock
from services.runtime.errors import RegistryUnavailableError
from services.runtime.kafka.port import Record, TransactionalProducer

Decode = Callable[[bytes], Decoded]
REASON_CHARACTERS = 2000
Original = Callable[[str, int, int], Record | None]
"""Reads the record at a topic, partition and offset again; None when it is no longer kept."""


class BatchRouter:
    """Routes batches by a plan, over a transactional producer that has an open transaction."""

    def __init__(
        self,
        producer: TransactionalProducer,
        memory: Memory,
        topics: Topics,
        schemas: SchemaNames,
        decode: Decode,
        redactor: Redactor,
        limits: Limits,
        original: Original,
        clock: Clock,
        spans: RouteSpans | None = None,
    ) -> None:
        self._spans = spans if spans is not None and spans.exports else None
        self._producer = producer
        self._memory = memory
        self._topics = topics
        self._schemas = schemas
        self.decode = decode
        self.feeds = Feeds(producer, topics, redactor, limits)
        self.ledger = Ledger(producer, topics, limits, clock)
        self.alarms = PolicyAlarms(producer, topics.alerts)
        self._limits = limits
        self._original = original

    def read(self, record: Record) -> Incoming | Unreadable:
        """Return the event that a record holds; raises RegistryUnavailableError."""
        return read(record, self._schemas)

    def route(self, scope: Scope, records: Sequence[Record], plan: Plan, state: BatchState) -> None:
        """Route the records of one partition in their order; raises UnavailableError: then nothing may commit."""
        readings = [self.read(record) for record in records]
        known = self.recall(scope, records, readings, state)
        for record, reading in zip(records, readings, strict=True):
            if isinstance(reading, Unreadable):
                self._dead_letter(scope, record, None, reading.reason, plan, state)
            elif reading.attributes["type"] in plan.probe_types:
                self._route_probe(scope, record, reading, plan, state)
            else:
                self._route_event(scope, record, reading, plan, known, state)

    def recall(
        self, scope: Scope, records: Sequence[Record], readings: Sequence[Incoming | Unreadable], state: BatchState
    ) -> dict[bytes, bytes | None]:
        """Return what is remembered of the identities and business keys of these records."""
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
        held_at = scope.key(record.key or b"")
        remembered = known[held_at]
        held = Held.from_bytes(remembered) if remembered else NOTHING
        follows = plan.is_follow_up(event.attributes)
        span = self._spans.begin(record, event) if self._spans is not None else None
        # A follow-up under a key that nothing was routed under is put on record as one: it follows nothing known.
        more: dict[str, object] = {"original": False} if follows and remembered is None else {}
        try:
            whole = self._routing(record, event, plan, held, follows=follows)
            versions, failed = self.feeds.redacted(record, whole)
            routing = whole.without(failed)
            if failed:
                more["withheld"] = withheld(whole, failed)
            entry = self.ledger.entry(record, event, "routed", plan, routing, **more)
            self.feeds.send(record, routing, plan, versions, hop=span.context if span else None)
        except (UndecodableValue, OutsizeError) as error:
            self._dead_letter(scope, record, event, str(error), plan, state)
            return
        except RegistryAway as error:
            raise RegistryUnavailableError(str(error)) from error
        self.ledger.put(scope, record, "routed", entry, state)
        if span is not None:
            state.spans.append(RouteSpans.routed(span, routing))
        if failed or self.alarms.open:
            self.alarms.tell(record, whole, failed)
        known[seen_at] = state.changes[seen_at] = First(event.digest, record.offset).to_bytes()
        after = held.after(routing.given(), record.offset, routing.effect, follows=follows)
        if after is not held:
            known[held_at] = state.changes[held_at] = after.to_bytes()

    def _route_probe(self, scope: Scope, record: Record, event: Incoming, plan: Plan, state: BatchState) -> None:
        """Give the system's own probe to its receiver as any event, but remember nothing and put nothing on record.

        It comes every few seconds for ever: the ledger and the state would hold little else.
        """
        try:
            matched = self._routing(record, event, plan, NOTHING, follows=False).matched
            routing = Routing({agency: names for agency, names in matched.items() if agency == PROBE_AGENCY})
            self.feeds.send(record, routing, plan, {"": (record.value, list(record.headers))})
        except (UndecodableValue, OutsizeError) as error:
            self._dead_letter(scope, record, event, str(error), plan, state)
            return
        except RegistryAway as error:
            raise RegistryUnavailableError(str(error)) from error
        state.verdicts["probe"] += 1

    def _routing(self, record: Record, event: Incoming, plan: Plan, held: Held, *, follows: bool) -> Routing:
        attributes, body = event.attributes, record.value or b""
        failed: list[str] = []
        matched = plan.matcher.match(attributes, lambda: self.decode(body).data, failed)
        effect = plan.effects.get(attributes["type"])
        if not plan.policies and not held.given:
            return Routing(matched, (), {}, effect, failed)
        return routing_of(matched, held.given if follows else {}, plan, effect, failed)

    def _repeat(
        self, scope: Scope, record: Record, event: Incoming, seen: bytes, plan: Plan, state: BatchState
    ) -> None:
        first = First.from_bytes(seen)
        if first.digest == event.digest or self._says_the_same(record, first):
            self.ledger.write(scope, record, event, "duplicate", plan, state)
        else:
            reason = "an event of this source, id and subject was accepted before, with other content; the first stands"
            self._dead_letter(scope, record, event, reason, plan, state, verdict="conflict")

    def _says_the_same(self, record: Record, first: First) -> bool:
        """Tell whether other bytes have the first's content, as those in another version of the schema may have.

        Where the first is no longer kept or can't be read, the bytes alone decide.
        """
        before = self._original(record.topic, record.partition, first.offset)
        if before is None:
            return False
        try:
            found, again = self.decode(before.value or b""), self.decode(record.value or b"")
        except (UndecodableValue, SchemaUnknown):
            return False
        except RegistryAway as error:
            raise RegistryUnavailableError(str(error)) from error
        return found.content_digest() == again.content_digest()

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
        ours = [
            ("hongyan-stage", b"router"),
            ("hongyan-reason", reason.encode(errors="replace")),
            ("hongyan-verdict", verdict.encode()),
        ]
        topic, letter = self._topics.deadletter("router"), aside(record, ours)
        try:
            self._limits.check(topic, record_bytes(letter.key, letter.value, letter.headers))
        except OutsizeError:
            letter = pointer(record, ours)
        self._producer.send(
            topic, key=letter.key, value=letter.value, headers=letter.headers, timestamp_ms=record.timestamp
        )
        reason = reason[:REASON_CHARACTERS]
        try:
            self.ledger.write(scope, record, event, verdict, plan, state, reason=reason)
        except OutsizeError:
            self.ledger.write(scope, record, None, verdict, plan, state, reason=reason)


def withheld(routing: Routing, failed: Mapping[str, str]) -> dict[str, dict[str, object]]:
    """Return who does not get an event since it can't be written under their policy: by which grants, and why."""
    return {
        agency: {"subscriptions": routing.matched.get(agency, ()), "policy": policy, "reason": failed[policy]}
        for agency, policy in sorted(routing.fields.items())
        if policy in failed
    }


def routing_of(
    matched: Mapping[str, Sequence[str]],
    original: Mapping[str, Given],
    plan: Plan,
    effect: str | None,
    failed: Sequence[str] = (),
) -> Routing:
    """Return who gets an event, and under which policy; ``original`` tells who got what a follow-up follows.

    A match goes under the union of its grants. A follow-up goes under the policy that the original went under, and
    where it also matches, under the union of both: whoever was told something is told of its correction.
    """
    fields = {}
    for agency, subscriptions in matched.items():
        policy = plan.policy(subscriptions)
        if policy and agency in original:
            policy = union_id([policy, original[agency].policy])
        if policy:
            fields[agency] = policy
    follow_up = sorted(agency for agency in original if agency not in matched and agency in plan.agencies)
    fields |= {agency: original[agency].policy for agency in follow_up if original[agency].policy}
    return Routing(matched, follow_up, fields, effect, failed)
