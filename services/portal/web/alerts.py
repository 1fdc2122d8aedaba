"""Alerts: what is open and what was, what each means, what to do about it and where."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Response

from services.portal.web.plain_words import in_language
from services.portal.web.reasons import Step
from services.portal.web.remembering import Held, Kept
from services.portal.web.rendering import Pages
from services.portal.web.sides import Parties, Side
from services.portal.web.viewer import Viewing
from services.portal.web.wording import Text
from services.runtime.alerts import Alert, AlertKind
from services.runtime.clock import Clock
from services.runtime.errors import UnavailableError

FRESH = timedelta(seconds=3)
MOST = 300
SEVERITIES: Mapping[str, tuple[str, Text]] = {"critical": ("bad", Text("严重")), "warning": ("warn", Text("警告"))}


@dataclass(frozen=True, slots=True)
class Told:
    """An alert for people: its words, since when, and where to go on."""

    alert: Mapping[str, Any]
    name: str
    at: datetime
    steps: Sequence[Step]

    @property
    def look(self) -> tuple[str, Text]:
        """Return how grave it is."""
        return SEVERITIES.get(self.alert["severity"], SEVERITIES["warning"])


class AlertBook:
    """The newest alerts, kept for while Kafka is away."""

    def __init__(
        self,
        read: Callable[[], Sequence[Alert]],
        parties: Parties,
        clock: Clock,
        away: Callable[[], UnavailableError | None] = lambda: None,
    ) -> None:
        self._kept: Kept[Sequence[Alert]] = Kept(read, clock, FRESH, away)
        self._parties = parties

    def held(self) -> Held[Sequence[Alert]]:
        """Return all of them in their newest state, newest first; raises UnavailableError."""
        return self._kept.get()

    def of(self, side: Side, alerts: Sequence[Alert], text: str = "") -> list[Told]:
        """Return what concerns a reader, for people."""
        own = side.agency or (side.department.id if side.department is not None else None)
        agencies = self._parties.agencies().value
        found = []
        for alert in alerts:
            if own is not None and alert.subject != own:
                continue
            known = agencies.get(alert.subject)
            name = str(known["name"]) if known is not None else alert.subject
            told = Told(alert.to_json(), name, datetime.fromisoformat(alert.at), _steps(alert, known is not None))
            if not text or text in f"{alert.subject} {name} {alert.detail} {alert.kind} {told.alert['title']}":
                found.append(told)
        return found


_PAGES: Mapping[str, tuple[Text, str]] = {
    "event-parked": (Text("看停放的事件"), "/parked"),
    "event-undecodable": (Text("看死信"), "/dead-letters"),
    "dead-letters": (Text("看死信"), "/dead-letters"),
    "policy-failed": (Text("看订阅"), "/subscriptions"),
    "grant-impaired": (Text("看订阅"), "/subscriptions"),
    "grant-ending": (Text("看订阅"), "/subscriptions"),
    "group-troubled": (Text("看总览"), "/"),
    "probe-failed": (Text("看总览"), "/"),
    "lag-burning": (Text("看接收单位的延迟"), "/agencies"),
}


def _steps(alert: Alert, is_agency: bool) -> Sequence[Step]:
    steps = []
    event = alert.labels.get("event_id")
    if event:
        steps.append(Step(Text("看这个事件"), f"/events/one?{urlencode({'id': event})}"))
    if alert.kind in _PAGES:
        label, path = _PAGES[AlertKind(alert.kind)]
        query = (
            f"?{urlencode({'agency': alert.subject})}" if is_agency and path in {"/parked", "/subscriptions"} else ""
        )
        steps.append(Step(label, path + query))
    if is_agency:
        steps.append(Step(Text("打开接收单位"), f"/agencies/{alert.subject}"))
    return steps


def routes(pages: Pages, parties: Parties, book: AlertBook) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get("/alerts")
    def show(viewer: Viewing, q: str = "", closed: bool = False) -> Response:
        side = parties.side_of(viewer)
        held = book.held()
        found = book.of(side, held.value, q.strip())
        opened = [one for one in found if one.alert["state"] == "open"]
        over = [one for one in found if one.alert["state"] != "open"]
        return pages.page(
            viewer,
            "alerts/list.html",
            side=side,
            q=q.strip(),
            closed=closed,
            held=held,
            opened=opened[:MOST],
            over=over[:MOST] if closed else [],
            over_number=len(over),
            cut=max(len(opened), len(over) if closed else 0) > MOST,
            most=MOST,
            said=in_language,
        )

    return router
