"""Which grants have been stopped by a decision: what they have put into a feed must not go out any more.

Who decides about the data can stop it at once, so a suspension or an end holds for what already waits in a feed too,
also in the feeds of those that a grant is forwarded to. A grant that has ended by its time was not stopped: what was
routed in time is owed. One whose place another has taken was not stopped either, unless that one was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from services.subscriptions.control import ControlView, Subscription

SUBSCRIPTIONS = "hongyan-subscriptions"
"""The header of a feed's record that names the grants it came by; empty for follow-ups, which are owed whatever."""
_SAID = {"suspended": "已暂停 (suspended)", "terminated": "已终止 (terminated)"}
_NONE: Mapping[str, str] = {}


class Stops:
    """The stopped grants by agency; made anew only when the configuration has changed."""

    def __init__(self, view: ControlView) -> None:
        self._view = view
        self._seen = -1
        self._by_agency: dict[str, dict[str, str]] = {}

    def of(self, agency: str) -> Mapping[str, str]:
        """Return the stopped grants whose events lie in this agency's feed, each with what is said of it."""
        # The version is read before the entries: a change in between makes the next call look again.
        version = self._view.version
        if version != self._seen:
            self._by_agency = _by_agency(dict(self._view.subscriptions))
            self._seen = version
        return self._by_agency.get(agency, _NONE)


def grants_of(headers: Sequence[tuple[str, bytes]]) -> tuple[str, ...]:
    """Return the grants that a feed's record came by; none for follow-ups."""
    named = next((value for name, value in headers if name == SUBSCRIPTIONS), b"")
    return tuple(named.decode(errors="replace").split(",")) if named else ()


def stopped(grants: Sequence[str], stops: Mapping[str, str]) -> str | None:
    """Return why a record that came by these grants must not go out: every one of them was stopped."""
    if not stops or not grants or any(name not in stops for name in grants):
        return None
    return "；".join(stops[name] for name in grants)


def closed_to_direct_reading(view: ControlView, agency: str, now: datetime) -> str | None:
    """Return why an agency must not read its feed from Kafka itself now: there no single event can be kept back.

    It is suspended, or one of its grants is, or all of them were ended by decision.
    """
    held = view.held(agency)
    if held is not None:
        return held
    known = dict(view.subscriptions)
    successors = {s.replaces: s for s in known.values() if s.replaces is not None}
    concerning = [_current(s, successors) for s in known.values() if agency in (s.agency, *s.forward_to)]
    states = {s.id: _ended_by_time(s, now) for s in concerning}
    suspended = sorted(name for name, state in states.items() if state == "suspended")
    if suspended:
        return f"订阅 {', '.join(suspended)} {_SAID['suspended']}"
    if states and set(states.values()) == {"terminated"}:
        return f"全部订阅{_SAID['terminated']}"
    return None


def _ended_by_time(one: Subscription, now: datetime) -> str:
    """Return the state as it is decided; a grant suspended and past its time will not be resumed: it has ended."""
    expires = one.expires_at()
    return "terminated" if one.state == "suspended" and expires is not None and now >= expires else one.state


def _by_agency(subscriptions: Mapping[str, Subscription]) -> dict[str, dict[str, str]]:
    successors = {s.replaces: s for s in subscriptions.values() if s.replaces is not None}
    found: dict[str, dict[str, str]] = {}
    for one in subscriptions.values():
        current = _current(one, successors)
        if current.state in _SAID:
            for agency in (one.agency, *one.forward_to):
                found.setdefault(agency, {})[one.id] = f"订阅 {one.id} {_SAID[current.state]}"
    return found


def _current(one: Subscription, successors: Mapping[str, Subscription]) -> Subscription:
    """Return the grant that stands in this one's place by now."""
    passed = set()
    while one.state == "terminated" and one.id in successors and one.id not in passed:
        passed.add(one.id)
        one = successors[one.id]
    return one
