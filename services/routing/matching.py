"""Which agencies an event goes to: pure, indexed by type, filters compiled once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import structlog

from schemas.codec import to_jsonable
from schemas.envelope import RECEIVERS, RECEIVERS_SEPARATOR
from services.routing.filters import Attributes, Data, OnError, Predicate, compile_filters
from services.runtime.errors import InvalidError
from services.subscriptions.control import Subscription

log = structlog.get_logger()
_NONE: Mapping[str, list[str]] = {}

Entry = tuple[str, str, Predicate | None, datetime | None, datetime | None]


class Matcher:
    """Matches events against the active subscriptions of one configuration.

    A subscription whose filters do not compile (one that was approved by other code) matches nothing and is logged: it
    never stops the router. One past its time matches nothing, with no one having to act.
    """

    def __init__(
        self, subscriptions: Iterable[Subscription], now: Callable[[], datetime], on_error: OnError = lambda: None
    ) -> None:
        self._now = now
        self._by_type: dict[str, list[Entry]] = defaultdict(list)
        for subscription in sorted(subscriptions, key=lambda s: s.id):
            if subscription.state == "active":
                self._add(subscription, on_error)

    def _add(self, subscription: Subscription, on_error: OnError) -> None:
        try:
            predicate = compile_filters(subscription.filters, on_error) if subscription.filters else None
            begins, expires = subscription.begins_at(), subscription.expires_at()
        except (InvalidError, ValueError) as error:
            log.error("subscription_refused", subscription=subscription.id, error=str(error))
            return
        for kind in subscription.types:
            self._by_type[kind].append((subscription.id, subscription.agency, predicate, begins, expires))

    def match(self, attributes: Attributes, data: Data) -> Mapping[str, list[str]]:
        """Return the agencies it goes to, each with the subscriptions that matched; ``data`` is called lazily.

        An event that names its receivers goes to those of them that subscribed, and to nobody else.
        """
        entries = self._by_type.get(attributes["type"])
        if not entries:
            return _NONE
        once = _Once(data)
        named = attributes.get(RECEIVERS)
        receivers = None if named is None else frozenset(named.split(RECEIVERS_SEPARATOR))
        found: dict[str, list[str]] = {}
        for subscription, agency, predicate, begins, expires in entries:
            if receivers is not None and agency not in receivers:
                continue
            if expires is not None and self._now() >= expires:
                continue
            if begins is not None and self._now() < begins:
                continue
            if predicate is None or predicate(attributes, once):
                found.setdefault(agency, []).append(subscription)
        return found


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
