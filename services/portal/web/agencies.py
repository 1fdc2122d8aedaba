"""Receiving agencies: the list with everybody's lag, and one agency's page with what can be done about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Response

from services.portal.access import AccessAdministration
from services.portal.agencies import AgencyDesk
from services.portal.web.alerts import AlertBook
from services.portal.web.chart import Chart, chart
from services.portal.web.live import Streams
from services.portal.web.overview import Present, counted
from services.portal.web.plain_words import division_name, in_language
from services.portal.web.remembering import Kept, kept_or_none
from services.portal.web.rendering import Pages
from services.portal.web.sides import Parties, Side
from services.portal.web.standing import CHANNELS, STATES, Standing
from services.portal.web.viewer import Viewer, Viewing, Watching
from services.runtime.errors import ForbiddenError, NotFoundError

PAGE = 100
SLOT_S, SLOTS = 60, 30
EVIDENCE = 5


class AgencyPages:
    """Puts the pages together."""

    def __init__(self, present: Present, desk: AgencyDesk, access: AccessAdministration, alerts: AlertBook) -> None:
        self.present = present
        self._desk = desk
        self._access = access
        self._alerts = alerts
        self._kept = Kept(present.clock)

    def listed(self, side: Side, q: str, state: str) -> dict[str, Any]:
        """Return what the list shows: who needs help first."""
        present = self.present
        rows = present.parties.agencies()
        found = [one for one in present.standings(side) if _asked(one, q, state)]
        return {
            "side": side,
            "standings": found[:PAGE],
            "number": len(found),
            "most": PAGE,
            "rows_at": rows.at,
            "rows_away": rows.away,
            "seen": present.watch.seen,
            "stale": present.watch.seen.stale(present.clock.now()),
            "said": in_language,
        }

    def live(self, agency: str) -> dict[str, Any]:
        """Return what the live part of an agency's page shows; raises NotFoundError."""
        present = self.present
        now = present.clock.now()
        held, uncounted = counted(lambda: self._kept.get(("chart", agency), lambda: self._chart(agency, now)))
        found = present.standing(agency)
        if found is None:
            raise NotFoundError(f"没有接收单位 {agency} (no such agency)")
        return {
            "standing": found,
            "seen": present.watch.seen,
            "stale": present.watch.seen.stale(now),
            "chart_held": held,
            "uncounted": uncounted,
            "reach": present.reach(),
            "channels": CHANNELS,
            "said": in_language,
            "slot_s": SLOT_S,
        }

    def _chart(self, agency: str, now: datetime) -> Chart:
        since = now.replace(second=0, microsecond=0) - timedelta(seconds=SLOT_S * (SLOTS - 1))
        return chart(self.present.flows.slots(agency, since, SLOT_S), since, SLOTS, SLOT_S)

    def settled(self, side: Side, agency: str) -> dict[str, Any]:
        """Return what is configured: credentials by id and end, evidence, alerts; what can't be read now is None."""
        row = self.present.parties.agencies().value[agency]

        def read() -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]], Mapping[str, Any] | None]:
            repository = self._desk.agencies
            paused = repository.paused(agency) if row["state"] == "suspended" else None
            return self._access.show(agency), repository.evidence(agency)[:EVIDENCE], paused

        held = kept_or_none(lambda: self._kept.get(("access", agency), read))
        access, evidence, paused = held.value if held else (None, (), None)
        book = kept_or_none(self._alerts.held)
        alerts = self._alerts.of(Side(agency=agency), book.value) if book else []
        return {
            "row": self._desk.shown(row),
            "access": access,
            "access_held": held,
            "evidence": evidence,
            "paused": paused,
            "alerts": alerts,
            "division_name": division_name,
        }


def _asked(one: Standing, q: str, state: str) -> bool:
    if q and q.lower() not in f"{one.id} {one.row['name']}".lower():
        return False
    return not state or (one.troubled if state == "troubled" else one.state == state)


def check_side(side: Side, agency: str) -> None:
    """Refuse an agency's page to all but the agency and those who run the system; raises ForbiddenError."""
    if not side.all and side.agency != agency:
        raise ForbiddenError(f"只能看自己的单位 (your own agency only): {side.agency or '—'}")


def routes(pages: Pages, parties: Parties, shown: AgencyPages, streams: Streams) -> APIRouter:
    """Return the routes that show."""
    router = APIRouter()

    def operator_side(viewer: Viewer) -> Side:
        side = parties.side_of(viewer)
        if side.agency is not None:
            raise ForbiddenError("只能看自己的单位 (your own agency only)")
        return side

    @router.get("/agencies")
    def listed(viewer: Viewing, q: str = "", state: str = "") -> Response:
        side = parties.side_of(viewer)
        if side.agency is not None:
            return pages.to(f"/agencies/{side.agency}")
        values = shown.listed(side, q.strip(), state)
        live = f"agencies?{urlencode({'q': q.strip(), 'state': state})}"
        return pages.page(viewer, "agencies/list.html", q=q.strip(), state=state, states=STATES, live=live, **values)

    @router.get("/live/agencies")
    def live_list(viewer: Watching, q: str = "", state: str = "") -> Response:
        side = operator_side(viewer)

        def render() -> str:
            return pages.part(viewer, "agencies/_rows.html", **shown.listed(side, q, state))

        return streams.stream(
            pages, viewer, ("agencies", viewer.department if not side.all else None, q, state), render
        )

    @router.get("/agencies/{agency}")
    def one(viewer: Viewing, agency: str) -> Response:
        side = parties.side_of(viewer)
        check_side(side, agency)
        live = shown.live(agency)
        return pages.page(viewer, "agencies/one.html", side=side, **live, **shown.settled(side, agency))

    @router.get("/live/agency/{agency}")
    def live_one(viewer: Watching, agency: str) -> Response:
        check_side(parties.side_of(viewer), agency)

        def render() -> str:
            return pages.part(viewer, "agencies/_live.html", **shown.live(agency))

        return streams.stream(pages, viewer, ("agency", agency), render)

    return router
