"""What routing goes by while one configuration stands, and how it follows the control topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from consumers.router.metrics import RouterMetrics
from schemas.contracts import Contracts
from services.routing.fields import FieldPolicy, policy_of, union_id
from services.routing.matching import Matcher
from services.runtime.clock import Clock
from services.subscriptions.control import Snapshot, Subscription
from services.subscriptions.follower import ControlFollower

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Plan:
    """One configuration.

    ``version`` is how far the control topic was read, the same number for every router. ``subscriptions`` are those in
    the state active, by id; ``effects`` tells which types end or restore what stands under their business key.
    """

    version: int
    matcher: Matcher
    agencies: frozenset[str]
    follow_up_types: frozenset[str]
    named_receiver_types: frozenset[str] = frozenset()
    effects: Mapping[str, str] = field(default_factory=dict)
    subscriptions: Mapping[str, Subscription] = field(default_factory=dict)
    policies: Mapping[str, str] = field(default_factory=dict)
    backfills: Sequence[Subscription] = ()
    forwards: bool = False
    probe_types: frozenset[str] = frozenset()
    _unions: dict[tuple[str, ...], str] = field(default_factory=dict)

    def policy(self, subscriptions: Sequence[str]) -> str:
        """Return the policy of what matched these: the union of their grants; empty when one of them is whole."""
        if not self.policies:
            return ""
        key = tuple(subscriptions)
        found = self._unions.get(key)
        if found is None:
            found = self._unions[key] = union_id([self.policies.get(name, "") for name in key])
        return found

    def is_follow_up(self, attributes: Mapping[str, str]) -> bool:
        """Tell whether an event goes to everyone who got what it follows."""
        return attributes["type"] in self.follow_up_types or "follows" in attributes

    def reason(self, agency: str, subscriptions: Sequence[str]) -> bytes:
        """Return why an agency gets an event: its own grant, or another's that may be forwarded to it."""
        own = not self.forwards or any(self.subscriptions[name].agency == agency for name in subscriptions)
        return b"match" if own else b"forward"


class Planner:
    """Gives the plan of the moment, made anew only when the configuration has changed."""

    def __init__(self, follower: ControlFollower, contracts: Contracts, metrics: RouterMetrics, clock: Clock) -> None:
        self._follower = follower
        self._contracts = contracts
        self._metrics = metrics
        self._clock = clock
        self._seen = -1
        self._plan: Plan | None = None
        self._policies: Mapping[str, Mapping[str, Any]] = {}
        self._told: set[str] = set()

    def __call__(self) -> Plan:
        """Return the plan of the moment."""
        # The version is read before the entries: a change in between makes the next call plan again.
        version = self._follower.view.version
        if self._plan is None or self._seen != version:
            snapshot = self._follower.view.snapshot()
            self._plan, self._seen = self._made(snapshot), version
            log.info("plan_made", version=snapshot.position, subscriptions=len(snapshot.subscriptions))
        return self._plan

    def domains(self, types: Sequence[str]) -> set[str]:
        """Return the domains of these types, as far as they are known."""
        return {self._contracts.types[name].domain for name in types if name in self._contracts.types}

    def policy_of(self, identity: str) -> FieldPolicy:
        """Return a field policy by its id."""
        return policy_of(identity, self._policies)

    def single(self, subscription: Subscription) -> Matcher:
        """Return a matcher of one subscription, with the same rights."""
        return self._matcher([subscription], self._follower.view.snapshot())

    def _made(self, snapshot: Snapshot) -> Plan:
        active = {name: s for name, s in snapshot.subscriptions.items() if s.state == "active"}
        granted = {s.policy(): s.fields for s in snapshot.subscriptions.values() if s.fields is not None}
        self._policies = {**snapshot.policies, **granted}
        self._told.clear()
        return Plan(
            snapshot.position,
            self._matcher(list(active.values()), snapshot),
            frozenset(snapshot.agencies),
            self._contracts.follow_up_types(),
            self._contracts.named_receiver_types(),
            self._contracts.effects(),
            active,
            {name: s.policy() for name, s in active.items() if s.fields is not None},
            [s for s in active.values() if s.backfill_from is not None],
            any(s.forward_to for s in active.values()),
            self._contracts.probe_types(),
        )

    def _matcher(self, subscriptions: Sequence[Subscription], snapshot: Snapshot) -> Matcher:
        unshared = self._contracts.unshared_types()
        return Matcher(subscriptions, self._clock.now, snapshot.agencies, unshared, self._failed)

    def _failed(self, subscriptions: Sequence[str]) -> None:
        """Count expressions that could not be evaluated; each subscription is told of once while a plan stands."""
        for name in subscriptions:
            self._metrics.filter_failed(name)
            if name not in self._told:
                self._told.add(name)
                log.warning("filter_failed", subscription=name)
