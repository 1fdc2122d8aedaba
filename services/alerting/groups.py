"""What people are told of together, and when: pure functions of groups, of what was told before, and of a clock.

All alerts of one kind about one subject are one group: a thousand parked events of one agency are one message. The
clock may jump: a time that lies ahead counts as now, so that a wrong clock delays a message by one interval at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from services.alerting.policy import Policy, retry_after_s
from services.runtime.alerts import SEVERITIES, Alert, AlertKind, Severity

Reason = Literal["raised", "repeated", "grew", "resolved"]
Manner = Literal["repeating", "once", "afterwards", "ending"]
"""How somebody is told: again and again; once, and of its end; of its end only; or of the end of what they know of."""
CALM_S = 3600.0
"""Whatever comes back within this time after its end must stand longer before anybody is told again: it flaps."""


@dataclass(frozen=True, slots=True)
class Told:
    """What one way has told of a group: how many messages, when the newest, of how much; and how sending fares.

    ``episode`` is when the group opened that was told of. ``resolved``: its end was told too.
    """

    episode: str = ""
    count: int = 0
    at: datetime | None = None
    size: int = 0
    severity: Severity = "warning"
    resolved: bool = False
    failures: int = 0
    tried_at: datetime | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Alerts of one kind and subject, by key, since the first of them was raised; ``closed_at``: all have ended.

    Over its end it keeps the alerts that it last had, so that the message of the end can say what has ended.
    """

    kind: AlertKind
    subject: str
    opened_at: datetime
    alerts: Mapping[str, Alert]
    closed_at: datetime | None = None
    said: str = ""
    """What the closing alert said."""
    told: Mapping[str, Told] = field(default_factory=dict)
    offset: int = -1
    """Where the newest alert stands that is in it: what stands before is not taken in again."""

    @property
    def name(self) -> str:
        """Return what it is called by."""
        return f"{self.kind}/{self.subject}"

    @property
    def severity(self) -> Severity:
        """Return the highest severity in it."""
        return max((one.weight for one in self.alerts.values()), key=SEVERITIES.index, default="warning")

    @property
    def size(self) -> int:
        """Return how much is wrong."""
        return sum(one.size for one in self.alerts.values())

    @property
    def episode(self) -> str:
        """Return what tells this trouble from an earlier one of the same name."""
        return self.opened_at.isoformat()

    def details(self, most: int = 10) -> Sequence[str]:
        """Return what the newest alerts say."""
        newest = sorted(self.alerts.values(), key=lambda one: one.at, reverse=True)
        return [one.detail for one in newest[:most]]


def take(group: Group | None, alert: Alert, offset: int | None, now: datetime, settle_s: float) -> Group | None:
    """Take in the alert at this offset of the log: it opens, grows, shrinks or closes its group. Twice is as once.

    One of our own has no offset yet (see :func:`noted`).
    """
    known = group.offset if group is not None else -1
    if offset is None:
        offset = known
    elif offset <= known:
        return group
    if alert.state == "closed":
        return _shrunk(group, alert, offset, now)
    if group is None:
        return Group(alert.kind, alert.subject, now, {alert.key: alert}, offset=offset)
    if group.closed_at is None:
        return replace(group, alerts={**group.alerts, alert.key: alert}, offset=offset)
    told = [one for one in group.told.values() if one.episode == group.episode]
    never_over = not any(one.resolved for one in told) and (told or passed(group.closed_at, now) < settle_s)
    if never_over:
        # Nobody was told that it is over: the same trouble goes on.
        return replace(group, alerts={alert.key: alert}, closed_at=None, said="", offset=offset)
    return Group(alert.kind, alert.subject, now, {alert.key: alert}, told=group.told, offset=offset)


def _shrunk(group: Group | None, alert: Alert, offset: int, now: datetime) -> Group | None:
    if group is None or group.closed_at is not None or alert.key not in group.alerts:
        return group
    left = {key: one for key, one in group.alerts.items() if key != alert.key}
    if left:
        return replace(group, alerts=left, offset=offset)
    return replace(group, closed_at=now, said=alert.detail, offset=offset)


def passed(since: datetime, now: datetime) -> float:
    """Return the seconds since then; a time that lies ahead (the clock went back) counts as now."""
    return max(0.0, (now - since).total_seconds())


def due(
    group: Group, told: Told, policy: Policy, now: datetime, manner: Manner = "repeating", *, silenced: bool = False
) -> Reason | None:
    """Return what somebody is to be told now, None for nothing.

    The end is told to whoever was told of the trouble, silenced or not. Whatever failed waits longer each time.
    """
    if told.failures and told.tried_at is not None and passed(told.tried_at, now) < retry_after_s(told.failures):
        return None
    severity = group.severity
    if policy.is_quiet(severity, now):
        return None
    if group.closed_at is not None:
        return "resolved" if _end_is_due(group, told, policy, now, manner) else None
    if silenced or manner in {"afterwards", "ending"}:
        return None
    if told.episode != group.episode:
        recently = told.at is not None and passed(told.at, now) < CALM_S
        wait_s = max(policy.first_wait_s(severity), policy.news_s if recently else 0.0)
        return "raised" if passed(group.opened_at, now) >= wait_s else None
    return _more(group, told, policy, now) if manner == "repeating" else None


def _more(group: Group, told: Told, policy: Policy, now: datetime) -> Reason | None:
    since = passed(told.at or group.opened_at, now)
    if SEVERITIES.index(group.severity) > SEVERITIES.index(told.severity):
        return "grew"
    if group.size > told.size and since >= policy.news_s:
        return "grew"
    return "repeated" if since >= policy.repeat_after_s(told.count) else None


def _end_is_due(group: Group, told: Told, policy: Policy, now: datetime, manner: Manner) -> bool:
    if group.closed_at is None or passed(group.closed_at, now) < policy.settle_s:
        return False
    of_this = told.episode == group.episode
    if manner == "afterwards":
        lasted = (group.closed_at - group.opened_at).total_seconds()
        return not of_this and lasted >= policy.first_wait_s("warning")
    # Whoever could not be reached before it ended is told that it was.
    return not told.resolved if of_this else told.failures > 0


def rebased(group: Group, now: datetime) -> Group:
    """Return the group with no time ahead of now: a clock that went back delays what is due by one interval at most."""

    def capped(at: datetime | None) -> datetime | None:
        return min(at, now) if at is not None else None

    ahead = [group.closed_at, *(t for told in group.told.values() for t in (told.at, told.tried_at))]
    if not any(at is not None and at > now for at in ahead):
        return group
    told = {way: replace(one, at=capped(one.at), tried_at=capped(one.tried_at)) for way, one in group.told.items()}
    return replace(group, closed_at=capped(group.closed_at), told=told)


def sent(group: Group, way: str, told: Told, now: datetime) -> Group:
    """Return the group after a message went out that told this."""
    return replace(group, told={**group.told, way: replace(told, at=now)})


def telling(group: Group, way: str, reason: Reason) -> Told:
    """Return what a message tells that is sent now."""
    number = next_number(group, way)
    return Told(group.episode, number + 1, None, group.size, group.severity, reason == "resolved")


def noted(group: Group, offset: int) -> Group:
    """Return the group once an alert of our own, which is in it already, has come to stand on the log."""
    return replace(group, offset=max(group.offset, offset))


def failed(group: Group, way: str, trouble: str, now: datetime) -> Group:
    """Return the group after a message did not go out."""
    before = group.told.get(way, Told())
    after = replace(before, failures=before.failures + 1, tried_at=now, trouble=trouble[:500])
    return replace(group, told={**group.told, way: after})


def is_over(group: Group, ways: Iterable[str], policy: Policy, now: datetime) -> bool:
    """Tell whether nobody has anything left to be told, and it has been calm for so long that it can be forgotten."""
    if group.closed_at is None or passed(group.closed_at, now) < max(CALM_S, policy.settle_s):
        return False
    # A way that is no longer used keeps nothing.
    known = [group.told[way] for way in ways if way in group.told]
    return all(told.resolved or told.episode != group.episode for told in known)


def is_owed_the_end(group: Group, way: str) -> bool:
    """Tell whether a way was told of this trouble, and not that it is over: it may be less grave by now."""
    told = group.told.get(way, Told())
    return told.episode == group.episode and not told.resolved


def next_number(group: Group, way: str) -> int:
    """Return which message of its episode the next one is, 0 for the first."""
    told = group.told.get(way, Told())
    return told.count if told.episode == group.episode else 0
