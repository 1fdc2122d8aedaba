"""Alerts: what is open and what was, what each means, what to do about it and where."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from schemas.times import shown_time
from services.alerting.groups import Told as Way
from services.alerting.silences import LONGEST, Silence, silencing
from services.identity.people import Role
from services.portal.alerts import Alerts, AlertsNow, SilenceBody
from services.portal.open_alerts import OpenAlerts
from services.portal.watching import Watch
from services.portal.web.audit import Audit
from services.portal.web.forms import Posted, reason_of
from services.portal.web.plain_words import in_language
from services.portal.web.reasons import Step
from services.portal.web.remembering import ALWAYS, Held, Kept
from services.portal.web.rendering import Pages
from services.portal.web.sides import Parties, Side
from services.portal.web.standing import Standing, standing
from services.portal.web.viewer import Viewer, Viewing, Watching, allow
from services.portal.web.wording import Text
from services.runtime.alerts import MEANINGS, Alert, AlertKind
from services.runtime.alerts import SEVERITIES as SEVERITY_ORDER
from services.runtime.clock import Clock
from services.runtime.errors import FieldProblem, InvalidError

FRESH = timedelta(seconds=3)
ALERTS = "alerts"
HOURS: Mapping[int, Text] = {
    1: Text("1 小时"),
    4: Text("4 小时"),
    24: Text("1 天"),
    168: Text("7 天"),
    744: Text("31 天"),
}
"""For how long people silence an alert."""
WAYS: Mapping[str, Text] = {
    "webhook": Text("告警接口"),
    "mail": Text("邮件"),
    "feed": Text("单位自己的队列"),
}
"""What the ways to people are called, by how their names begin."""
MOST = 300
"""So many ended ones are listed, the newest; of those that are open, all."""
KNOWN_ENDED = 1200
MOST_HAPPENED = 5
"""So many of a group are listed, the newest."""
SEVERITIES: Mapping[str, tuple[str, Text]] = {"critical": ("bad", Text("紧急")), "warning": ("warn", Text("警告"))}


@dataclass(frozen=True, slots=True)
class Happened:
    """One alert of a group: when, what was said, and which event it is about."""

    at: datetime
    detail: str
    size: int
    event: str | None


@dataclass(frozen=True, slots=True)
class Told:
    """Alerts of one kind about one subject for people: what happened, newest first, who was told, where to go on."""

    alert: Mapping[str, Any]
    name: str
    happened: Sequence[Happened]
    steps: Sequence[Step]
    silence: Silence | None = None
    ways: Mapping[str, Way] = field(default_factory=dict)
    standing: Standing | None = None

    @property
    def at(self) -> datetime:
        """Return since when the oldest stands."""
        return min(one.at for one in self.happened)

    @property
    def size(self) -> int:
        """Return how much is wrong."""
        return sum(one.size for one in self.happened)

    @property
    def look(self) -> tuple[str, Text]:
        """Return how grave it is."""
        return SEVERITIES.get(self.alert["severity"], SEVERITIES["warning"])


@dataclass(frozen=True, slots=True)
class Counted:
    """How many were open ``at`` a time that concern somebody, of one kind and subject together, how many critical."""

    number: int
    critical: int
    at: datetime


class AlertBook:
    """The newest alerts, kept for while Kafka is away: nothing is fresh then, however young."""

    def __init__(
        self,
        alerts: Alerts,
        opened: OpenAlerts,
        parties: Parties,
        watch: Watch,
        clock: Clock,
        away: Callable[[], bool] = lambda: False,
    ) -> None:
        self.alerts = alerts
        self._opened = opened
        self._away = away
        self.clock = clock
        self._parties = parties
        self._watch = watch
        self._kept = Kept(clock)

    def held(self) -> Held[AlertsNow]:
        """Return all that are open and the newest ended ones; raises UnavailableError."""
        return self._kept.get(ALERTS, lambda: self.alerts.now(KNOWN_ENDED), ALWAYS if self._away() else FRESH)

    def counted(self, own: str | None) -> Counted | None:
        """Return how many are open that concern an agency or department, or anybody (None), as they were read last.

        Every page shows it and none waits for it. None where they were never read.
        """
        found = self._opened.found
        if found is None:
            return None
        groups: dict[str, bool] = {}
        for one in _about(own, found.alerts):
            groups[one.group] = groups.get(one.group, False) or one.weight == "critical"
        return Counted(len(groups), sum(groups.values()), found.at)

    def changed(self) -> None:
        """Have them read anew."""
        self._kept.forget(ALERTS)

    def of(self, side: Side, found: AlertsNow, text: str = "") -> list[Told]:
        """Return what is open and concerns a reader, for people: what is of one kind and subject together."""
        groups: dict[str, list[Alert]] = {}
        for alert in _concerning(side, found.alerts):
            if alert.state == "open":
                groups.setdefault(alert.group, []).append(alert)
        told = (self._told(group, found) for group in groups.values())
        return [one for one in told if not text or text in _words(one)]

    def over(self, side: Side, found: AlertsNow, text: str = "") -> list[Told]:
        """Return what has ended and concerns a reader, one by one."""
        told = (self._told([one], found) for one in _concerning(side, found.alerts) if one.state != "open")
        return [one for one in told if not text or text in _words(one)]

    def _told(self, group: Sequence[Alert], found: AlertsNow) -> Told:
        alert = max(group, key=lambda one: SEVERITY_ORDER.index(one.weight))
        row = self._parties.agencies().value.get(alert.subject)
        is_open = alert.state == "open"
        ways = found.told.get(alert.group, {}) if is_open else {}
        return Told(
            alert.to_json(),
            str(row["name"]) if row is not None else alert.subject,
            [Happened(datetime.fromisoformat(o.at), o.detail, o.size, o.labels.get("event_id")) for o in group],
            _steps(alert, row is not None),
            silencing(found.silences, alert.kind, alert.subject, self.clock.now()) if is_open else None,
            {way: told for way, told in ways.items() if told.count or told.failures},
            standing(row, self._watch.seen.agency(alert.subject)) if row is not None else None,
        )

    def subject_name(self, subject: str | None) -> str:
        """Return what a silence is about, in words."""
        return self._parties.agency_name(subject) if subject else ""


def _words(one: Told) -> str:
    alert, said = one.alert, " ".join(f"{happened.detail} {happened.event}" for happened in one.happened)
    return f"{alert['subject']} {one.name} {alert['kind']} {alert['title']} {said}"


def _concerning(side: Side, alerts: Sequence[Alert]) -> Sequence[Alert]:
    return _about(side.own, alerts)


def _about(own: str | None, alerts: Sequence[Alert]) -> Sequence[Alert]:
    return [one for one in alerts if own in {None, one.subject}]


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
    if alert.kind in _PAGES:
        label, path = _PAGES[AlertKind(alert.kind)]
        query = (
            f"?{urlencode({'agency': alert.subject})}" if is_agency and path in {"/parked", "/subscriptions"} else ""
        )
        steps.append(Step(label, path + query))
    if is_agency:
        steps.append(Step(Text("打开接收单位"), f"/agencies/{alert.subject}"))
    return steps


def own_of(viewer: Viewer) -> str | None:
    """Return whose alerts somebody sees: an agency's, a department's, or, who runs the system, everybody's (None)."""
    return None if viewer.administers else viewer.agency or viewer.department or ""


def routes(pages: Pages, audit: Audit, parties: Parties, book: AlertBook) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get("/alerts")
    def show(viewer: Viewing, q: str = "", closed: bool = False) -> Response:
        side = parties.side_of(viewer)
        held = book.held()
        opened = book.of(side, held.value, q.strip())
        over = book.over(side, held.value, q.strip())
        now = book.clock.now()
        silences = [one for one in held.value.silences if closed or one.is_live(now)] if side.all else []
        return pages.page(
            viewer,
            "alerts/list.html",
            side=side,
            q=q.strip(),
            closed=closed,
            held=held,
            opened=opened,
            over=over[:MOST] if closed else [],
            over_number=len(over),
            more_over=held.value.more_ended,
            cut=closed and (len(over) > MOST or held.value.more_ended or len(silences) > MOST),
            most=MOST,
            most_happened=MOST_HAPPENED,
            silences=silences[:MOST],
            subject_name=book.subject_name,
            meanings=MEANINGS,
            hours=HOURS,
            ways=WAYS,
            said=in_language,
        )

    @router.get("/live/alert-count")
    def counted(viewer: Watching) -> Response:
        return HTMLResponse(pages.part(viewer, "alerts/_count.html", alerts_open=book.counted(own_of(viewer))))

    @router.post("/alerts/silences")
    def silence(viewer: Viewing, form: Posted) -> Response:
        allow(viewer, Role.SYSTEM)
        reason = reason_of(form)
        try:
            hours = float(form.get("hours", ""))
            body = SilenceBody(
                kind=AlertKind(form.get("kind", "")),
                subject=form.get("subject") or None,
                hours=hours,
                reason=reason,
                by=viewer.person.id,
            )
        except ValueError as error:
            longest = int(LONGEST.total_seconds() / 3600)
            detail = f"写明静默哪一个告警，多少小时（至多 {longest}） (say which alert, and for how many hours)"
            raise InvalidError([FieldProblem("/hours", detail)]) from error
        about = "/".join(one for one in ("alert", body.kind, body.subject) if one)
        with audit.doing(viewer, "alert.silence", about, reason, hours=hours):
            made = book.alerts.silence(body)
        book.changed()
        note = Text("已静默至 {until}，到时自动恢复告知；告警照记。")
        return pages.to("/alerts", note, until=shown_time(made.until))

    @router.post("/alerts/silences/{name}/end")
    def end(viewer: Viewing, name: str, form: Posted) -> Response:
        allow(viewer, Role.SYSTEM)
        reason = reason_of(form)
        with audit.doing(viewer, "alert.unsilence", f"silence/{name}", reason):
            book.alerts.end_silence(name, viewer.person.id)
        book.changed()
        return pages.to("/alerts", Text("静默已结束，未关闭的告警恢复告知。"))

    return router
