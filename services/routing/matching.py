"""Which agencies an event goes to: pure, indexed by type and attribute values, filters compiled once and shared.

Rights are looked at for every event: whether the type is shared at all, the grant's time, the receivers that the event
names, the divisions that the grant reaches, and whether the agency is known and open.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
import structlog

from schemas.codec import to_jsonable
from schemas.envelope import RECEIVERS, RECEIVERS_SEPARATOR
from schemas.formats import division_prefix
from services.routing.filters import Attributes, Data, Predicate, compile_filters
from services.routing.index import Index, access_of
from services.runtime.errors import InvalidError
from services.subscriptions.control import Agency, Subscription

log = structlog.get_logger()
_NONE: Mapping[str, list[str]] = {}
OPEN_STATES = frozenset({"active", "suspended"})
"""An agency in one of these still gets what it is entitled to; a suspended one's line is held, and nothing is lost."""

OnFailed = Callable[[Sequence[str]], None]


@dataclass(frozen=True, slots=True)
class Recipient:
    """An agency that a subscription reaches, and between which times."""

    subscription: str
    agency: str
    begins: datetime | None
    expires: datetime | None


@dataclass(slots=True)
class Group:
    """Subscriptions with the same filters and the same scope: looked at once for all of them."""

    scope: tuple[str, ...]
    predicate: Predicate | None = None
    recipients: list[Recipient] = field(default_factory=list)
    failed: bool = False

    def fail(self) -> None:
        """Note that an expression could not be evaluated on the event at hand."""
        self.failed = True

    def holds(self, attributes: Attributes, data: Data) -> bool:
        """Tell whether an event is in scope and the filters hold."""
        division = attributes.get("division")
        if self.scope and division is not None and not division.startswith(self.scope):
            return False
        if self.predicate is None:
            return True
        # An event whose data could not be decoded may have left it set.
        self.failed = False
        return self.predicate(attributes, data) is True


def reach(subscription: Subscription, agency: str, agencies: Mapping[str, Agency]) -> tuple[str, ...] | None:
    """Return the prefixes of divisions that a grant reaches for an agency: the holder's are the grant's own.

    Whoever it is forwarded to gets what is both in the grant's reach and of its own division; None when nothing is.
    """
    holder = agencies.get(subscription.agency)
    granted = sorted(subscription.divisions) or [division_prefix(holder.division) if holder else ""]
    if agency == subscription.agency:
        return tuple(granted)
    return common(granted, division_prefix(agencies[agency].division)) or None


def common(granted: Iterable[str], own: str) -> tuple[str, ...]:
    """Return the prefixes of the divisions that lie both in what is granted and in a division."""
    return tuple(sorted({max(own, one, key=len) for one in granted if own.startswith(one) or one.startswith(own)}))


class Matcher:
    """Matches events against the active subscriptions of one configuration.

    A subscription whose filters do not compile (one that was approved by other code) matches nothing and is logged: it
    never stops the router. One past its time matches nothing, with no one having to act. Without ``agencies`` their
    rights are not looked at. ``on_failed`` hears of subscriptions with an expression that could not be evaluated.
    """

    def __init__(
        self,
        subscriptions: Iterable[Subscription],
        now: Callable[[], datetime],
        agencies: Mapping[str, Agency] | None = None,
        unshared: Collection[str] = (),
        on_failed: OnFailed = lambda _: None,
    ) -> None:
        self._now = now
        self._agencies = agencies
        self._on_failed = on_failed
        self._by_type: dict[str, Index[Group]] = {}
        self._groups: dict[tuple[str, bytes, tuple[str, ...]], Group] = {}
        for subscription in sorted(subscriptions, key=lambda s: s.id):
            if subscription.state == "active":
                self._add(subscription, [kind for kind in subscription.types if kind not in unshared])
        self._groups.clear()

    def _add(self, subscription: Subscription, types: Sequence[str]) -> None:
        try:
            times = subscription.begins_at(), subscription.expires_at()
            for agency in (subscription.agency, *subscription.forward_to):
                if not self._is_open(agency):
                    continue
                scope = () if self._agencies is None else reach(subscription, agency, self._agencies)
                if scope is None:
                    log.error("forwarding_reaches_nothing", subscription=subscription.id, agency=agency)
                    continue
                for kind in types:
                    group = self._group(kind, subscription.filters, scope)
                    group.recipients.append(Recipient(subscription.id, agency, *times))
        except (InvalidError, ValueError) as error:
            log.error("subscription_refused", subscription=subscription.id, error=str(error))

    def _is_open(self, agency: str) -> bool:
        if self._agencies is None:
            return True
        return agency in self._agencies and self._agencies[agency].state in OPEN_STATES

    def _group(self, kind: str, filters: Sequence[Mapping[str, Any]], scope: tuple[str, ...]) -> Group:
        key = kind, orjson.dumps(filters), scope
        group = self._groups.get(key)
        if group is None:
            group = Group(scope)
            compiled = compile_filters(filters, group.fail) if filters else None
            access = access_of(filters, scope)
            group.predicate = None if access is not None and access.whole else compiled
            self._groups[key] = group
            self._by_type.setdefault(kind, Index()).put(access, group)
        return group

    def match(self, attributes: Attributes, data: Data, failed: list[str] | None = None) -> Mapping[str, list[str]]:
        """Return the agencies it goes to, each with the subscriptions that matched; ``data`` is called lazily.

        An event that names its receivers goes to those of them that subscribed, and to nobody else. ``failed`` takes
        the subscriptions with an expression that could not be evaluated: they have not matched.
        """
        index = self._by_type.get(attributes["type"])
        if index is None:
            return _NONE
        once = _Once(data)
        named = attributes.get(RECEIVERS)
        receivers = None if named is None else frozenset(named.split(RECEIVERS_SEPARATOR))
        found: dict[str, list[str]] = {}
        for group in index.find(attributes):
            if group.holds(attributes, once):
                self._collect(group, receivers, found)
            if group.failed:
                self._note(group, failed)
        return {agency: sorted(found[agency]) for agency in sorted(found)} if len(found) > 1 else found

    def _collect(self, group: Group, receivers: frozenset[str] | None, found: dict[str, list[str]]) -> None:
        for one in group.recipients:
            if receivers is not None and one.agency not in receivers:
                continue
            if one.expires is not None and self._now() >= one.expires:
                continue
            if one.begins is not None and self._now() < one.begins:
                continue
            found.setdefault(one.agency, []).append(one.subscription)

    def _note(self, group: Group, failed: list[str] | None) -> None:
        group.failed = False
        names = [one.subscription for one in group.recipients]
        self._on_failed(names)
        if failed is not None:
            failed.extend(names)


class _Once:
    """Decodes an event's data at most once, however many filters ask for it; dates and times as ISO 8601 text.

    CEL refuses a whole record with a value of a kind that it does not know, and the filter would never match.
    """

    __slots__ = ("_data", "_value")

    def __init__(self, data: Data) -> None:
        self._data = data
        self._value: Mapping[str, Any] | None = None

    def __call__(self) -> Mapping[str, Any]:
        if self._value is None:
            self._value = to_jsonable(self._data())
        return self._value
