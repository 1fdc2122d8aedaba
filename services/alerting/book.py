"""Which alerts are open, and which are to be opened and closed since what is wrong has changed. Pure, with a clock."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from services.alerting.groups import passed
from services.alerting.policy import Policy
from services.runtime.alerts import Alert, AlertKind

RAISED_BY_OTHERS = frozenset(
    {
        AlertKind.EVENT_PARKED,
        AlertKind.EVENT_UNDECODABLE,
        AlertKind.LINE_HELD,
        AlertKind.AGENCY_GONE,
        AlertKind.RECEIVER_UNUSABLE,
        AlertKind.POLICY_FAILED,
    }
)
"""What its own process raises at once is raised for it only when it has had the time: it may have been killed."""
STANDS_S = {AlertKind.GROUP_TROUBLED: 5.0}
"""What must stand for so long, whatever it is called meanwhile: a group gets over the dealing of its partitions."""
OVER = "已恢复或已处理 (over, or seen to)"
REMOVED = "单位已移除，此事随之结束 (the agency was removed, and this with it)"
CHANGED_S = 60.0


@dataclass(slots=True)
class Judged:
    """What the rules have found: ``kinds`` were looked at just now, so that what is not in ``alerts`` is over.

    ``ended`` are keys of what is over for a reason of its own, whether it was looked at or not.
    """

    kinds: set[AlertKind] = field(default_factory=set)
    alerts: dict[str, Alert] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)

    def end(self, alerts: Iterable[Alert], why: str) -> None:
        """Note that these are over, whatever was found."""
        for alert in alerts:
            self.alerts.pop(alert.key, None)
            self.ended[alert.key] = why

    def add(self, kinds: Collection[AlertKind], alerts: Iterable[Alert]) -> None:
        """Take in what one rule has found of these kinds."""
        self.kinds.update(kinds)
        self.alerts.update((alert.key, alert) for alert in alerts)


class Book:
    """The alerts that are open by the log, and since when something else is so than it says.

    What is wrong for a moment only is neither opened nor closed: the times are ``clear_s`` for an end, and for a
    beginning ``others_s`` where another process should have told. Nothing is closed that was not looked at.
    """

    def __init__(self, clear_s: float = 10.0, others_s: float = 30.0) -> None:
        self.open: dict[str, Alert] = {}
        self._clear_s = clear_s
        self._others_s = others_s
        self._rising: dict[str, datetime] = {}
        self._falling: dict[str, datetime] = {}

    def take(self, alert: Alert) -> None:
        """Take in an alert of the log, ours or another process's."""
        if alert.state == "open":
            self.open[alert.key] = alert
        else:
            self.open.pop(alert.key, None)

    def judge(self, judged: Judged, now: datetime) -> list[Alert]:
        """Return the alerts to write: opened, changed, closed. They count as written at once."""
        out = [*self._opened(judged, now), *self._changed(judged, now), *self._closed(judged, now)]
        for alert in out:
            self.take(alert)
        return out

    def _opened(self, judged: Judged, now: datetime) -> list[Alert]:
        missing = {key: alert for key, alert in judged.alerts.items() if key not in self.open}
        self._rising = {key: min(self._rising.get(key, now), now) for key in missing}
        return [alert for key, alert in missing.items() if passed(self._rising[key], now) >= self._stands_s(alert.kind)]

    def _stands_s(self, kind: AlertKind) -> float:
        return self._others_s if kind in RAISED_BY_OTHERS else STANDS_S.get(kind, 0.0)

    def _changed(self, judged: Judged, now: datetime) -> list[Alert]:
        """Say anew what has become graver or more; what only sounds different is not news."""
        found = []
        for key, alert in judged.alerts.items():
            known = self.open.get(key)
            if known is None or (known.weight, known.size) == (alert.weight, alert.size):
                continue
            graver = alert.weight == "critical" and known.weight == "warning"
            if graver or passed(datetime.fromisoformat(known.at), now) >= CHANGED_S:
                found.append(replace(alert, at=now.isoformat()))
        return found

    def _closed(self, judged: Judged, now: datetime) -> list[Alert]:
        over = {
            key: alert
            for key, alert in self.open.items()
            if key in judged.ended or (alert.kind in judged.kinds and key not in judged.alerts)
        }
        self._falling = {key: min(self._falling.get(key, now), now) for key in over}
        return [
            replace(alert, state="closed", at=now.isoformat(), detail=judged.ended.get(key, OVER))
            for key, alert in over.items()
            if passed(self._falling[key], now) >= self._clear_s
        ]


def clear_after(policy: Policy) -> float:
    """Return how long something must be over before its alert is closed: a part of what people wait for the end."""
    return min(10.0, policy.settle_s / 4)
