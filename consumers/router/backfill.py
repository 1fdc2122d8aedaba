"""Backfill: a subscription that begins in the past gets what was routed before it took effect, exactly once.

Each router does the partitions that it owns, beside the live work, in small transactions. The **seam** of a partition
is the position from which it was routed with the subscription in force; the router notes it on ``ledger.routed`` in the
transaction that first goes by that configuration. The backfill then reads ``[start, seam)``; and up to where the live
work is by then, for what follows up on the originals that it has just given. Events, what the ledger
says of them and the progress commit together, under the group's membership: a router that has lost the partition can't
commit. What an agency already has (the ledger tells) it does not get again, and what has ended since is withheld.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
import structlog

from consumers.router.batch import BatchRouter, routing_of
from consumers.router.memory import NOTHING, Held, Memory, Scope
from consumers.router.plan import Plan, Planner
from consumers.router.reading import Incoming
from consumers.router.writing import BatchState, OutsizeError
from schemas.codec import UndecodableValue
from schemas.reading import Unreadable
from schemas.times import happened, parse_time
from schemas.topics import Topics
from services.routing.matching import Matcher
from services.runtime.clock import Clock
from services.runtime.kafka.port import Consumer, Kafka, Partition, Record, TransactionalProducer
from services.subscriptions.control import Subscription

SCAN = 500
POLL_S = 0.005
LOOK_S = 1.0
CLOCK_SKEW_MS = 3_600_000
"""An event may have been published by a clock that was behind the one that dated it."""

log = structlog.get_logger()


@dataclass(slots=True)
class Progress:
    """How far a backfill of one partition is: offsets of the event topic, and what came of what was read.

    ``until`` is where the live work was when the seam was reached: from there on follow-ups go out live.
    """

    seam: int
    start: int | None = None
    next: int = 0
    until: int | None = None
    routed: int = 0
    withheld: int = 0

    @property
    def done(self) -> bool:
        """Tell whether everything was read: the past before the seam, and what followed up on it meanwhile."""
        return self.until is not None and self.next >= self.until

    @property
    def end(self) -> int:
        """Return where reading stops for now."""
        return self.seam if self.until is None else self.until

    def to_json(self) -> dict[str, Any]:
        """Return it as the ledger and the store hold it."""
        return {name: getattr(self, name) for name in self.__slots__} | {"done": self.done}

    @classmethod
    def of(cls, held: bytes | None) -> Progress | None:
        """Read what the store holds."""
        if held is None:
            return None
        found = orjson.loads(held)
        return cls(**{name: found[name] for name in cls.__slots__})


@dataclass(slots=True)
class Task:
    """One backfill of one partition under way: its readers, and what is known of what needs no delivery."""

    subscription: Subscription
    scope: Scope
    progress: Progress
    matcher: Matcher
    scanned_to: int
    since: datetime
    skip: set[int] = field(default_factory=set)
    has: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    scanned: bool = False


@dataclass(frozen=True, slots=True)
class Readers:
    """The clients of backfills, kept from one partition to the next."""

    source: Consumer
    ledger: Consumer

    def close(self) -> None:
        """Close both."""
        self.source.close()
        self.ledger.close()


class Backfiller:
    """Does the backfills of the partitions that a router owns, a small piece at each call."""

    def __init__(
        self,
        kafka: Kafka,
        topics: Topics,
        memory: Memory,
        planner: Planner,
        clock: Clock,
        slot: str,
        *,
        per_s: int,
        chunk: int,
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._memory = memory
        self._planner = planner
        self._clock = clock
        self._slot = slot
        self._pause_s = chunk / per_s
        self._chunk = chunk
        self._task: Task | None = None
        self._readers: Readers | None = None
        self._not_before = 0.0
        self._seen: tuple[object, ...] = ()
        self._look_again_at = 0.0
        self._settled: set[tuple[str, Scope]] = set()

    def unseamed(self, plan: Plan, scopes: Mapping[Partition, Scope]) -> list[tuple[Subscription, Scope]]:
        """Return the subscriptions in force that begin in the past, with the partitions whose seam is not noted.

        It looks when plan or partitions have changed, and once a second, since time puts a grant in force too: a seam
        noted late costs nothing, as what an agency has by then is known.
        """
        seen = (plan, *scopes.values())
        if self._seen == seen and self._clock.monotonic() < self._look_again_at:
            return []
        self._seen, self._look_again_at = seen, self._clock.monotonic() + LOOK_S
        now = self._clock.now()
        return [
            (subscription, scope)
            for subscription in plan.backfills
            if _in_force(subscription, now)
            for partition, scope in scopes.items()
            if partition.topic in self._sources(subscription) and self._progress(scope, subscription.id) is None
        ]

    def note_seams(
        self,
        found: Sequence[tuple[Subscription, Scope]],
        positions: Mapping[Partition, int],
        router: BatchRouter,
        plan: Plan,
        state: BatchState,
    ) -> None:
        """Note, in the open transaction, from where on these subscriptions are in force."""
        for subscription, scope in found:
            progress = Progress(positions[scope.partition])
            router.ledger.note(scope, "seam", subscription.id, progress.to_json(), plan, state)
            log.info("seam_noted", subscription=subscription.id, partition=scope.partition, seam=progress.seam)

    def due(self, plan: Plan, scopes: Mapping[Partition, Scope]) -> bool:
        """Tell whether there is something to do now; the rate is kept."""
        if self._task is not None and not self._still(self._task, plan, scopes):
            self._task = None
        if self._task is None and plan.backfills and self._clock.monotonic() >= self._not_before:
            self._task = self._next_task(plan, scopes)
            if self._task is None:
                self._not_before = self._clock.monotonic() + LOOK_S
                self.drop()
        return self._task is not None and self._clock.monotonic() >= self._not_before

    def work(
        self, plan: Plan, router: BatchRouter, producer: TransactionalProducer, consumer: Consumer
    ) -> BatchState | None:
        """Do a piece of the task at hand; return what its transaction has changed, once it has committed.

        Raises UnavailableError after which the transaction must be aborted and the task dropped.
        """
        task, readers = self._task, self._readers
        if task is None or readers is None:
            return None
        if not task.scanned:
            self._scan(task, readers.ledger)
            return None
        records = readers.source.poll(POLL_S, self._chunk).get(task.scope.partition, ())
        reached = records[-1].offset + 1 if records else readers.source.position(task.scope.partition)
        end = task.progress.end
        if reached <= task.progress.next and reached < end:
            return None
        self._not_before = self._clock.monotonic() + self._pause_s
        state = BatchState()
        producer.begin()
        self._route(task, [r for r in records if r.offset < end], router, plan, state)
        task.progress.next = min(reached, end)
        live = consumer.position(task.scope.partition)
        if task.progress.until is None and task.progress.next >= task.progress.seam:
            task.progress.until = max(live, task.progress.seam)
            task.scanned = False
        router.ledger.note(task.scope, "backfill", task.subscription.id, task.progress.to_json(), plan, state)
        self._show(task, producer)
        producer.send_offsets({task.scope.partition: live}, consumer)
        producer.commit()
        if task.progress.done:
            log.info("backfill_done", subscription=task.subscription.id, partition=task.scope.partition)
            self._settled.add((task.subscription.id, task.scope))
            self._task = None
        elif not task.scanned:
            # Read again what lies beyond the seam, and learn what the ledger has said of it meanwhile.
            readers.source.seek(task.scope.partition, task.progress.next)
            task.scanned_to = self._ledger_end(readers.ledger, task.scope)
        return state

    def drop(self) -> None:
        """Forget the task at hand; it is taken up again from what was committed."""
        readers, self._readers, self._task = self._readers, None, None
        if readers is not None:
            readers.close()

    def _route(self, task: Task, records: Sequence[Record], router: BatchRouter, plan: Plan, state: BatchState) -> None:
        readings = [router.read(record) for record in records]
        known = router.recall(task.scope, records, readings, state)
        for record, event in zip(records, readings, strict=True):
            if isinstance(event, Unreadable) or record.offset in task.skip:
                continue
            self._route_event(task, record, event, router, plan, known, state)

    def _route_event(
        self,
        task: Task,
        record: Record,
        event: Incoming,
        router: BatchRouter,
        plan: Plan,
        known: dict[bytes, bytes | None],
        state: BatchState,
    ) -> None:
        if happened(event.attributes, record.timestamp) < task.since:
            return
        held_at = task.scope.key(record.key or b"")
        remembered = known[held_at]
        held = Held.from_bytes(remembered) if remembered else NOTHING
        matched = self._wanting(task, record, event, router) if record.offset < task.progress.seam else {}
        reached = {task.subscription.agency, *task.subscription.forward_to}
        original = {
            agency: given
            for agency, given in held.given.items()
            if plan.is_follow_up(event.attributes)
            and agency in reached
            and given.since < record.offset
            and record.offset not in task.has[agency]
        }
        routing = routing_of(matched, original, plan, None)
        if not routing.given():
            return
        named: dict[str, Any] = {"subscription": task.subscription.id}
        reason = "what it tells of has ended since (已终止，不再补送)" if held.ended > record.offset else None
        if reason is None:
            try:
                entry = router.ledger.entry(record, event, "backfilled", plan, routing, **named)
                router.feeds.send(record, routing, plan, b"backfill")
            except OutsizeError as error:
                reason = str(error)
        if reason is not None:
            router.ledger.write(task.scope, record, event, "withheld", plan, state, reason=reason, **named)
            task.progress.withheld += 1
            return
        router.ledger.put(task.scope, record, "backfilled", entry, state)
        task.progress.routed += 1
        after = held.after(routing.given(), record.offset)
        if after is not held:
            known[held_at] = state.changes[held_at] = after.to_bytes()

    @staticmethod
    def _wanting(task: Task, record: Record, event: Incoming, router: BatchRouter) -> dict[str, Sequence[str]]:
        try:
            matched = task.matcher.match(event.attributes, lambda: router.decode(record.value or b"").data)
        except UndecodableValue:
            return {}  # it is a dead letter since it was live
        return {agency: names for agency, names in matched.items() if record.offset not in task.has[agency]}

    def _scan(self, task: Task, ledger: Consumer) -> None:
        """Read on in the ledger: which events of the partition need no delivery, and why."""
        partition = Partition(self._topics.ledger_routed, task.scope.partition.partition)
        topic, _ = task.scope.partition
        reached = {task.subscription.agency, *task.subscription.forward_to}
        for record in ledger.poll(POLL_S, SCAN).get(partition, ()):
            entry = orjson.loads(record.value or b"{}")
            offset = entry.get("offset")
            if entry.get("topic") != topic or offset is None or offset < task.progress.next:
                continue
            if entry["verdict"] in {"routed", "backfilled"}:
                for agency in reached.intersection((*entry["agencies"], *entry["follow_up"])):
                    task.has[agency].add(offset)
            elif entry["verdict"] != "withheld":
                task.skip.add(offset)
        task.scanned = ledger.position(partition) >= task.scanned_to

    def _next_task(self, plan: Plan, scopes: Mapping[Partition, Scope]) -> Task | None:
        now = self._clock.now()
        for subscription in plan.backfills:
            if not _in_force(subscription, now):
                continue
            topics = self._sources(subscription)
            for partition, scope in scopes.items():
                if partition.topic not in topics or (subscription.id, scope) in self._settled:
                    continue
                progress = self._progress(scope, subscription.id)
                if progress is not None and not progress.done:
                    return self._open(subscription, scope, progress)
                if progress is not None:
                    self._settled.add((subscription.id, scope))
        return None

    def _open(self, subscription: Subscription, scope: Scope, progress: Progress) -> Task:
        since = parse_time(subscription.backfill_from or "")[0]
        if self._readers is None:
            self._readers = Readers(self._reader("source"), self._reader("ledger"))
        source, ledger = self._readers.source, self._readers.ledger
        source.assign([scope.partition])
        if progress.start is None:
            from_ms = int(since.timestamp() * 1000) - CLOCK_SKEW_MS
            found = source.offsets_at([scope.partition], from_ms)
            progress.start = min(found.get(scope.partition, progress.seam), progress.seam)
            progress.next = progress.start
        source.seek(scope.partition, progress.next)
        partition = Partition(self._topics.ledger_routed, scope.partition.partition)
        ledger.assign([partition])
        ledger.seek(partition, ledger.beginning_offsets([partition])[partition])
        end = self._ledger_end(ledger, scope)
        log.info("backfill_taken_up", subscription=subscription.id, partition=scope.partition, next=progress.next)
        return Task(subscription, scope, progress, self._planner.single(subscription), end, since)

    def _ledger_end(self, ledger: Consumer, scope: Scope) -> int:
        """Return how far the ledger must be read to know everything that was routed so far.

        A commit's mark may come onto the log after the commit was answered: what we wrote ourselves is known anyhow.
        """
        partition = Partition(self._topics.ledger_routed, scope.partition.partition)
        return max(ledger.end_offsets([partition])[partition], self._memory.checkpoint(scope))

    def _reader(self, name: str) -> Consumer:
        return self._kafka.consumer(None, client_id=f"router-{self._slot}-backfill-{name}")

    def _still(self, task: Task, plan: Plan, scopes: Mapping[Partition, Scope]) -> bool:
        same = plan.subscriptions.get(task.subscription.id) == task.subscription
        return (
            same and scopes.get(task.scope.partition) is task.scope and _in_force(task.subscription, self._clock.now())
        )

    def _sources(self, subscription: Subscription) -> set[str]:
        return {self._topics.events(domain) for domain in self._planner.domains(subscription.types)}

    def _progress(self, scope: Scope, subscription: str) -> Progress | None:
        return Progress.of(self._memory.get([scope.backfill(subscription)])[0])

    def _show(self, task: Task, producer: TransactionalProducer) -> None:
        """Show the progress to whoever asks, in the same transaction."""
        topic, partition = task.scope.partition
        shown = {"subscription": task.subscription.id, "topic": topic, "partition": partition}
        shown |= task.progress.to_json() | {"at": self._clock.now().isoformat()}
        key = f"{task.subscription.id}/{topic}/{partition}".encode()
        producer.send(self._topics.control_backfill, key=key, value=orjson.dumps(shown), partition=0)


def _in_force(subscription: Subscription, now: datetime) -> bool:
    begins, expires = subscription.begins_at(), subscription.expires_at()
    return (begins is None or now >= begins) and (expires is None or now < expires)
