"""Backfill: a subscription that begins in the past gets what was routed before it took effect, exactly once.

Each router does the partitions that it owns, in small pieces within the transactions of its live work; where nothing
is live, in transactions of their own. The **seam** of a partition is the position from which it was routed with the
subscription in force; the router notes it on ``ledger.routed`` in the transaction that first goes by that
configuration. The backfill then reads ``[start, seam)``; and up to where the live work is by then, for what follows up
on the originals that it has just given. Events, what the ledger says of them and the progress commit together, under
the group's membership: a router that has lost the partition can't commit. What an agency already has (the ledger
tells) it does not get again; what has ended since, and what is older than a follow-up that it has, is withheld.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import structlog

from consumers.router.ahead import Ahead, Stretch
from consumers.router.batch import BatchRouter, routing_of
from consumers.router.memory import NOTHING, Held, Memory, Scope
from consumers.router.pace import Pace
from consumers.router.plan import Plan, Planner
from consumers.router.reading import Incoming
from consumers.router.writing import BatchState, OutsizeError
from schemas.codec import UndecodableValue
from schemas.reading import Unreadable
from schemas.times import happened, parse_time
from schemas.topics import Topics
from services.routing.matching import Matcher
from services.runtime.clock import Clock
from services.runtime.kafka.port import Kafka, Partition, Record, TransactionalProducer
from services.subscriptions.control import Subscription

LOOK_S = 1.0
SHOW_S = 0.5
WAIT_S = 0.02
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
    failed: int = 0
    """Events on which an expression could not be evaluated: they have not matched."""

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
        return cls(**{name: found[name] for name in cls.__slots__ if name in found})


@dataclass(slots=True)
class Task:
    """One backfill of one partition under way."""

    subscription: Subscription
    scope: Scope
    progress: Progress
    matcher: Matcher
    since: datetime
    stretch: Stretch
    shown_at: float = 0.0

    @property
    def agencies(self) -> set[str]:
        """Return whom it may reach."""
        return {self.subscription.agency, *self.subscription.forward_to}

    def has(self, agency: str, offset: int) -> bool:
        """Tell whether the ledger says that an agency has got the event at this offset."""
        said = self.stretch.said
        return said is not None and agency in said.has and offset in said.has[agency]

    def skips(self, offset: int) -> bool:
        """Tell whether the event at this offset never went live: a duplicate, or a dead letter."""
        return self.stretch.said is not None and offset in self.stretch.said.skip


@dataclass(frozen=True, slots=True)
class Piece:
    """What one transaction takes on of a task: records, and the offset up to which these are everything."""

    task: Task
    records: Sequence[Record]
    read_to: int


class Backfiller:
    """Does the backfills of the partitions that a router owns, a small piece in each transaction."""

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
        self._topics = topics
        self._memory = memory
        self._planner = planner
        self._clock = clock
        self._pace = Pace(per_s, chunk)
        self._ahead = Ahead(kafka, topics, f"router-{slot}-backfill")
        self._task: Task | None = None
        self._not_before = 0.0
        self._more = False
        self._seen: tuple[object, ...] = ()
        self._look_again_at = 0.0
        self._settled: set[tuple[str, Scope]] = set()

    def unseamed(self, plan: Plan, scopes: Mapping[Partition, Scope]) -> list[tuple[Subscription, Scope]]:
        """Return the subscriptions in force that begin in the past, with the partitions whose seam is not noted.

        It looks when plan or partitions have changed, and once a second, since time puts a grant in force too: a seam
        noted late costs nothing, as what an agency has by then is known.
        """
        if not plan.backfills:
            return []
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

    def piece(self, plan: Plan, scopes: Mapping[Partition, Scope], *, beside: bool, behind: bool) -> Piece | None:
        """Return what the next transaction may take on: little ``beside`` live events, next to none when ``behind``."""
        task = self._at_hand(plan, scopes)
        now = self._clock.monotonic()
        if (
            task is None
            or not task.stretch.ready
            or not (limit := self._pace.allows(now, beside=beside, behind=behind))
        ):
            return None
        if task.progress.start is None:
            task.progress.start = task.progress.next = task.stretch.start or 0
        records, read_to = task.stretch.take(limit)
        if not records and read_to < task.progress.end:
            return None
        return Piece(task, records, read_to)

    def patience(self) -> float:
        """Return how long (seconds) live events may be waited for, before a piece is due without them."""
        if self._task is None:
            return WAIT_S if self._more else LOOK_S
        return max(self._pace.due_in(self._clock.monotonic()), 0.0 if self._task.stretch.offers() else WAIT_S)

    def route(
        self,
        piece: Piece,
        live: int,
        router: BatchRouter,
        producer: TransactionalProducer,
        plan: Plan,
        state: BatchState,
    ) -> None:
        """Route a piece in the open transaction; ``live`` is up to where the partition is routed live with it.

        Raises UnavailableError: then the transaction must be aborted and the task dropped.
        """
        task, began = piece.task, self._clock.monotonic()
        self._route(task, piece.records, router, plan, state)
        task.progress.next = piece.read_to
        if task.progress.until is None and task.progress.next >= task.progress.seam:
            task.progress.until = max(live, task.progress.seam)
        router.ledger.note(task.scope, "backfill", task.subscription.id, task.progress.to_json(), plan, state)
        now = self._clock.monotonic()
        if task.progress.done or now - task.shown_at > SHOW_S:
            self._show(task, producer)
            task.shown_at = now
        self._pace.took(len(piece.records), now - began, now)

    def committed(self) -> None:
        """Go on from what has committed, and is remembered."""
        task = self._task
        if task is None:
            return
        if task.progress.done:
            log.info("backfill_done", subscription=task.subscription.id, partition=task.scope.partition)
            self._settled.add((task.subscription.id, task.scope))
            self._task, self._more = None, True
            self._ahead.leave()
        elif task.stretch.end != task.progress.end:
            # What lies beyond the seam may follow up on what was given; the ledger has said more of it meanwhile.
            task.stretch = self._stretch(task.subscription, task.scope, task.progress, task.since, task.stretch)
            self._ahead.open(task.stretch)

    def drop(self) -> None:
        """Forget the task at hand; it is taken up again from what was committed."""
        self._task = None
        self._ahead.close()

    def _route(self, task: Task, records: Sequence[Record], router: BatchRouter, plan: Plan, state: BatchState) -> None:
        readings = [router.read(record) for record in records]
        known = router.recall(task.scope, records, readings, state)
        for record, event in zip(records, readings, strict=True):
            if isinstance(event, Unreadable) or task.skips(record.offset):
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
        failed: list[str] = []
        matched = self._wanting(task, record, event, router, failed) if record.offset < task.progress.seam else {}
        task.progress.failed += bool(failed)
        original = {
            agency: given
            for agency, given in held.given.items()
            if plan.is_follow_up(event.attributes)
            and agency in task.agencies
            and given.since < record.offset
            and not task.has(agency, record.offset)
        }
        # What is older than a follow-up that an agency has no longer tells the state; an ending does, until restored.
        stays = plan.effects.get(event.attributes["type"]) == "ends"
        told = {a for a in (*matched, *original) if not stays and held.followed(a) > record.offset}
        if told and held.ended <= record.offset:
            self._withhold(task, record, event, router, plan, state, "它此后的更正已送达 (corrected since)", told)
            matched = {agency: names for agency, names in matched.items() if agency not in told}
            original = {agency: given for agency, given in original.items() if agency not in told}
        routing = routing_of(matched, original, plan, None, failed)
        if not routing.given():
            return
        reason = "what it tells of has ended since (已终止，不再补送)" if held.ended > record.offset else None
        if reason is None:
            try:
                versions, failures = router.feeds.redacted(record, routing)
                for policy, why in failures.items():
                    out = [agency for agency, one in routing.fields.items() if one == policy]
                    self._withhold(task, record, event, router, plan, state, why, out)
                if not (routing := routing.without(failures)).given():
                    return
                named = {"subscription": task.subscription.id}
                entry = router.ledger.entry(record, event, "backfilled", plan, routing, **named)
                router.feeds.send(record, routing, plan, versions, b"backfill")
            except (OutsizeError, UndecodableValue) as error:
                reason = str(error)
        if reason is not None:
            self._withhold(task, record, event, router, plan, state, reason, routing.given())
            return
        router.ledger.put(task.scope, record, "backfilled", entry, state)
        task.progress.routed += 1
        after = held.after(routing.given(), record.offset, follows=plan.is_follow_up(event.attributes))
        if after is not held:
            known[held_at] = state.changes[held_at] = after.to_bytes()

    @staticmethod
    def _withhold(
        task: Task,
        record: Record,
        event: Incoming,
        router: BatchRouter,
        plan: Plan,
        state: BatchState,
        reason: str,
        agencies: Iterable[str],
    ) -> None:
        """Put on record what is not given to these agencies, and why."""
        named: dict[str, Any] = {"subscription": task.subscription.id, "withheld_from": sorted(agencies)}
        router.ledger.write(task.scope, record, event, "withheld", plan, state, reason=reason, **named)
        task.progress.withheld += 1

    @staticmethod
    def _wanting(
        task: Task, record: Record, event: Incoming, router: BatchRouter, failed: list[str]
    ) -> dict[str, Sequence[str]]:
        try:
            matched = task.matcher.match(event.attributes, lambda: router.decode(record.value or b"").data, failed)
        except UndecodableValue:
            return {}  # it is a dead letter since it was live
        return {agency: names for agency, names in matched.items() if not task.has(agency, record.offset)}

    def _at_hand(self, plan: Plan, scopes: Mapping[Partition, Scope]) -> Task | None:
        """Return the task at hand, if it still stands; else take up the next one."""
        if self._task is not None and self._task.stretch.failed is not None:
            log.warning("backfill_interrupted", error=str(self._task.stretch.failed))
            self._task, self._not_before = None, self._clock.monotonic() + LOOK_S
        if self._task is not None and not self._still(self._task, plan, scopes):
            self._task = None
            self._ahead.leave()
        if self._task is None and plan.backfills and self._clock.monotonic() >= self._not_before:
            self._task, self._more = self._next_task(plan, scopes), False
            if self._task is None:
                self._not_before = self._clock.monotonic() + LOOK_S
                self._ahead.close()
            else:
                self._ahead.open(self._task.stretch)
        return self._task

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
        stretch = self._stretch(subscription, scope, progress, since, None)
        log.info("backfill_taken_up", subscription=subscription.id, partition=scope.partition, next=progress.next)
        return Task(subscription, scope, progress, self._planner.single(subscription), since, stretch)

    def _stretch(
        self, subscription: Subscription, scope: Scope, progress: Progress, since: datetime, before: Stretch | None
    ) -> Stretch:
        return Stretch(
            scope.partition,
            None if progress.start is None else progress.next,
            progress.end,
            int(since.timestamp() * 1000) - CLOCK_SKEW_MS,
            {subscription.agency, *subscription.forward_to},
            self._memory.checkpoint(scope),
            before.said if before is not None else None,
        )

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
