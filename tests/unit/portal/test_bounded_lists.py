"""Lists that show the first of many say so and lead to the rest, and a number that was not counted out says that."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from services.delivery.lag import AgencyLag, GroupLag, ProbeLag, Snapshot
from services.ledger.flowing import Flow
from services.portal import alert_commands
from services.portal.web.overview import FLOW_ROWS, TROUBLE_ROWS, Overview, Present
from services.portal.web.remembering import Held
from services.portal.web.sides import Side
from services.runtime.alerts import Alert, AlertKind
from tests.unit.portal.test_operations_views import ENVIRONMENT, Viewing, watched
from tests.unit.portal.test_reasons import AT, LAG, ROW

TROUBLED = TROUBLE_ROWS + 3


@dataclass
class Named:
    """So many agencies, and no department."""

    rows: Mapping[str, Mapping[str, Any]]

    def agencies(self) -> Held[Mapping[str, Mapping[str, Any]]]:
        """Return the agencies by id."""
        return Held(self.rows, AT)

    def departments(self) -> Held[Sequence[Any]]:
        """Return none."""
        return Held((), AT)

    def agency_name(self, agency: str) -> str:
        """Return a name."""
        return f"单位 {agency}"

    def source_name(self, source: str) -> str:
        """Return a name."""
        return f"部门 {source}"


@dataclass
class Flowing:
    """So many departments of which each sends to one agency."""

    number: int

    def flows(self, agencies: Collection[str], since: datetime) -> Sequence[Flow]:
        """Return what flows."""
        return [Flow(f"urn:{n}", "a00", 1000 - n, 0, 0) for n in range(self.number)]


class Uncounted:
    """Alerts that nobody has counted."""

    def counted(self, _own: str | None) -> None:
        """Return nothing."""


def overview(lags: Sequence[AgencyLag], groups: Sequence[GroupLag] = (), flows: int = 1) -> Overview:
    """Return the overview of agencies that lag so."""
    watch, clock = watched(Snapshot(AT.isoformat(), 300, list(lags), list(groups), ProbeLag("off", AT.isoformat())))
    watch.look()
    parties = Named({lag.agency: {**ROW, "id": lag.agency} for lag in lags})
    present = Present(watch, parties, Flowing(flows), clock)  # type: ignore[arg-type]
    return Overview(present, None, Uncounted(), "")  # type: ignore[arg-type]


def shown(of: Overview, *, all_flows: bool = False) -> str:
    """Return the live part as who runs the system reads it."""
    template = ENVIRONMENT.get_template("overview/_live.html")
    values = of.values(Side(), all_flows=all_flows)
    return template.render(language="zh", now=AT, viewer=Viewing(None), **values)


def test_of_many_agencies_in_trouble_the_first_are_listed_with_the_way_to_the_others() -> None:
    """The link says how many more there are; where all are listed there is none."""
    held = [replace(LAG, agency=f"a{n:02}", state="held") for n in range(TROUBLED)]
    page = shown(overview(held))
    assert len(re.findall(r'id="t-a\d+"', page)) == TROUBLE_ROWS
    link = re.search(r'<a id="all-troubled" href="([^"]+)">([^<]+)</a>', page)
    assert link is not None
    assert link.groups() == ("/agencies?state=troubled", f"另有 {TROUBLED - TROUBLE_ROWS} 个，看全部")
    assert "all-troubled" not in shown(overview(held[:TROUBLE_ROWS]))


def test_of_many_flows_the_busiest_are_listed_until_all_are_asked_for() -> None:
    """The number is that of all of them."""
    many = overview([LAG], flows=FLOW_ROWS + 7)
    page = shown(many)
    assert page.count("<td>部门 urn:") == FLOW_ROWS
    assert f"共 {FLOW_ROWS + 7} 行，只列路由最多的 {FLOW_ROWS} 行。" in page
    assert re.search(r'<a id="all-flows" href="/\?flows=all#flow">看全部</a>', page)
    every = shown(many, all_flows=True)
    assert (every.count("<td>部门 urn:"), "all-flows" in every) == (FLOW_ROWS + 7, False)


@pytest.mark.parametrize(("exact", "said"), [(True, "；落后 5,000 条"), (False, "；落后 ≥ 5,000 条")])
def test_a_group_that_was_not_counted_to_its_end_is_at_least_so_far_behind(exact: bool, said: str) -> None:
    """As a backlog is."""
    router = GroupLag("router", "events", 5000, "stalled", AT.isoformat(), 9.0, 1, lag_exact=exact)
    assert said in shown(overview([LAG], [router]))


def test_a_terminal_says_that_more_alerts_follow_and_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where the list ends; and beside what a program reads."""
    raised = [Alert(AlertKind.LINE_HELD, f"a{n}", AT.isoformat(), "x").to_json() for n in range(5)]

    def asked(_method: str, path: str) -> list[dict[str, Any]]:
        limit, skip = (int(found[1]) for name in ("limit", "skip") if (found := re.search(rf"{name}=(\d+)", path)))
        return raised[skip : skip + limit]

    monkeypatch.setattr(alert_commands, "ask", asked)
    runner = CliRunner()
    first = runner.invoke(alert_commands.alerts, ["--limit", "2", "--skip", "2"])
    assert "只列到第 4 条，后面还有，加 --skip 4 续看 (more follow: --skip 4)" in first.stdout
    last = runner.invoke(alert_commands.alerts, ["--limit", "2", "--skip", "3"])
    assert (last.stdout.count("原因："), "more follow" in last.output) == (2, False)
    programs = runner.invoke(alert_commands.alerts, ["--limit", "2", "--json"])
    assert ("more follow" in programs.stdout, "more follow" in programs.stderr) == (False, True)
