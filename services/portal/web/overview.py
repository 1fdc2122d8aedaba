"""The overview: what flows now from departments to agencies, who is behind, and what somebody has to do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from fastapi import APIRouter, Response

from services.delivery.lag import TROUBLED, GroupLag
from services.ledger.flowing import Flow, FlowReader, FlowsTooManyError
from services.ledger.reading import LedgerReader
from services.portal.watching import Reach, Watch
from services.portal.web.alerts import AlertBook
from services.portal.web.flow import NARROW, WIDE, Party, draw
from services.portal.web.live import Streams
from services.portal.web.plain_words import in_language
from services.portal.web.remembering import Held, Kept, kept_or_none
from services.portal.web.rendering import Pages
from services.portal.web.sides import Parties, Side
from services.portal.web.standing import STATES, Standing, ranked, standing, totals
from services.portal.web.viewer import Viewer, Viewing, Watching
from services.portal.web.wording import Text
from services.runtime.clock import Clock
from services.runtime.errors import UnavailableError

MINUTES = 5
FRESH = timedelta(seconds=4)
TROUBLE_ROWS = 8
FLOW_ROWS = 50
ALL = "all"
NOT_READ = Text("台账在 PostgreSQL 里，暂时读不到。")
TOO_MANY = Text("这段时间的事件太多，限时内没有数完；稍后自动再数。")
T = TypeVar("T")
GROUP_NAMES: Mapping[str, str] = {
    "router": "路由 router",
    "pusher": "推送 pusher",
    "statistics": "统计 statistics",
    "ledger": "台账 ledger",
    "control": "控制 control",
}


def counted(get: Callable[[], Held[T]]) -> tuple[Held[T] | None, Text | None]:
    """Return what was counted of the ledger; where it never was, why."""
    try:
        return get(), None
    except FlowsTooManyError:
        return None, TOO_MANY
    except UnavailableError:
        return None, NOT_READ


class Present:
    """What the pages know now of everybody, each part with its own age."""

    def __init__(self, watch: Watch, parties: Parties, flows: FlowReader, clock: Clock) -> None:
        self.watch = watch
        self.parties = parties
        self.flows = flows
        self.clock = clock
        self._kept = Kept(clock)

    def reach(self) -> Reach:
        """Return how far the ledger reaches: every page of what it holds says so where it is behind."""
        return self.watch.seen.reach(self.clock.now())

    def standings(self, side: Side) -> list[Standing]:
        """Return how the agencies of a side stand, who needs help first; raises UnavailableError.

        An agency's side is itself; a department's are those that have been given an event of its.
        """
        rows, seen = self.parties.agencies().value, self.watch.seen
        own: Collection[str] = rows if side.agency is None else [side.agency]
        if side.department is not None:
            source = side.department.source
            own = self._kept.get(("receivers", source), lambda: self.flows.receivers(source, list(rows)), FRESH).value
        return ranked(standing(row, seen.agency(name)) for name, row in rows.items() if name in own)

    def standing(self, agency: str) -> Standing | None:
        """Return how one agency stands, None when it is not known."""
        row = self.parties.agency(agency)
        return None if row is None else standing(row, self.watch.seen.agency(agency))


class Overview:
    """Puts the overview together for whoever looks."""

    def __init__(self, present: Present, ledger: LedgerReader, alerts: AlertBook, prefix: str) -> None:
        self._present = present
        self._alerts = alerts
        self._ledger = ledger
        self._prefix = prefix
        self._kept = Kept(present.clock)

    def _read_flows(self) -> Sequence[Flow]:
        since = self._present.clock.now() - timedelta(minutes=MINUTES)
        return self._present.flows.flows(list(self._present.parties.agencies().value), since)

    def values(self, side: Side, *, all_flows: bool = False) -> dict[str, Any]:
        """Return what the live part shows; of the table of flows the busiest, unless all are asked for."""
        present, now = self._present, self._present.clock.now()
        seen, parties = present.watch.seen, present.parties
        standings = self._standings(side)
        held, uncounted = counted(lambda: self._kept.get("flows", self._read_flows, FRESH))
        flows = _of(side, held.value if held else ())
        sources = _sources(side, parties, flows)
        agencies = [Party(one.id, str(one.row["name"]), one.look) for one in standings or ()]
        if side.department is not None:
            got = {flow.agency for flow in flows}
            agencies = [one for one in agencies if one.id in got]
        snapshot = seen.snapshot
        return {
            "side": side,
            "minutes": MINUTES,
            "drawings": [
                ("wide", draw(flows, sources, agencies, WIDE)),
                ("narrow", draw(flows, sources, agencies, NARROW)),
            ],
            "flows": sorted(flows, key=lambda flow: -flow.routed)[: None if all_flows else FLOW_ROWS],
            "flows_number": len(flows),
            "all_flows": all_flows,
            "flows_held": held,
            "uncounted": uncounted,
            "reach": present.reach(),
            "source_name": parties.source_name,
            "agency_name": parties.agency_name,
            "totals": totals(standings) if standings is not None else None,
            "troubled": [one for one in standings or () if one.troubled][:TROUBLE_ROWS],
            "alerts": self._alerts.counted(side.own),
            "standings": standings,
            "seen": seen,
            "stale": seen.stale(now),
            "probe": snapshot.probe if snapshot else None,
            "clocks": snapshot.clocks if snapshot else (),
            "groups": self._groups(snapshot.groups) if snapshot and side.all else (),
            "states": STATES,
            "group_name": self._group_name,
            "prefix": self._prefix,
            "said": in_language,
        }

    def _standings(self, side: Side) -> list[Standing] | None:
        """Return how a side's agencies stand, None where it was never read whose they are."""
        try:
            return self._present.standings(side)
        except UnavailableError:
            return None

    def day(self, side: Side) -> Held[Mapping[str, int]] | None:
        """Return what the last day came to: published, routed, delivered, parked; None where it was never read."""
        return kept_or_none(lambda: self._kept.get(("day", side.scope), lambda: self._day(side)))

    def _day(self, side: Side) -> Mapping[str, int]:
        found = self._ledger.overview(side.scope, 24)
        words = ("delivered", "accepted", "rejected", "parked", "entitled")
        sums = {word: sum(int(flow.get(word, 0)) for flow in found.flows) for word in words}
        return sums | {"published": sum(int(one.get("published", 0)) for one in found.publishers)}

    def _group_name(self, group: str) -> str:
        name = group.removeprefix(self._prefix)
        return GROUP_NAMES.get(name, name)

    def _groups(self, groups: Sequence[GroupLag]) -> list[GroupLag]:
        """Return the consumer groups of ours that somebody should look at."""
        return [one for one in groups if one.state in TROUBLED and not one.group.startswith(f"{self._prefix}agency.")]


def _of(side: Side, flows: Sequence[Flow]) -> Sequence[Flow]:
    if side.agency is not None:
        return [flow for flow in flows if flow.agency == side.agency]
    if side.department is not None:
        return [flow for flow in flows if flow.source == side.department.source]
    return flows


def _sources(side: Side, parties: Parties, flows: Sequence[Flow]) -> list[Party]:
    """Return the departments to draw: a department itself, those whose events an agency got, or all."""
    if side.department is not None:
        return [Party(side.department.source, side.department.name)]
    seen = {flow.source for flow in flows}
    known = [Party(one.source, one.name) for one in parties.departments().value]
    if side.agency is not None:
        known = [one for one in known if one.id in seen]
    missing = sorted(seen - {one.id for one in known})
    return [*known, *(Party(source, source) for source in missing)]


def routes(pages: Pages, parties: Parties, overview: Overview, streams: Streams) -> APIRouter:
    """Return the overview's routes."""
    router = APIRouter()

    def side_of(viewer: Viewer) -> Side | None:
        sided = viewer.administers or viewer.agency is not None or viewer.department is not None
        return parties.side_of(viewer) if sided else None

    @router.get("/")
    def show(viewer: Viewing, flows: str = "") -> Response:
        side = side_of(viewer)
        if side is None:
            return pages.page(viewer, "overview/without_side.html")
        values = overview.values(side, all_flows=flows == ALL)
        return pages.page(viewer, "overview/show.html", day_held=overview.day(side), **values)

    @router.get("/live/overview")
    def live(viewer: Watching, flows: str = "") -> Response:
        side, every = parties.side_of(viewer), flows == ALL

        def render() -> str:
            return pages.part(viewer, "overview/_live.html", **overview.values(side, all_flows=every))

        return streams.stream(pages, viewer, ("overview", side.agency, viewer.department, every), render)

    return router
