"""What is told after a month was closed, from a simulated file to the next issue; and the closing itself, to a feed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from services.runtime.settings import Settings, as_environment
from tests.conditions import eventually
from tests.configuration import Configuration
from tests.conftest import OwnTopics
from tests.independent_count import Counting
from tests.processes import Processes
from tests.pulling import Puller

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]
AGENCY, KEY = "audit-office", "hya_audit"
CLOSED, RESTATED = "cn.gov.sc.statistics.month.closed", "cn.gov.sc.statistics.figure.restated"
Command = Callable[..., str]


@pytest.fixture
def run(installation: Settings, tmp_path: Path) -> Command:
    """Run ``hongyan`` in a folder of its own, and return what it prints."""
    environment = os.environ | as_environment(installation)

    def command(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "hongyan", *words],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return command


def test_what_comes_late_changes_no_published_figure_and_is_told_in_the_next_issue(
    run: Command,
    configuration: Configuration,
    own: OwnTopics,
    installation: Settings,
    processes: Processes,
    tmp_path: Path,
) -> None:
    """Simulated, imported, closed, then told late: adjustments name the events, and both figures are answered.

    A subscribing agency has the closing and the restatement on its feed, by way of the router.
    """
    own.ensure_agency(AGENCY)
    configuration.agency(AGENCY, "http://127.0.0.1:1/")
    configuration.subscription("audit", AGENCY, [CLOSED, RESTATED])
    configuration.access(AGENCY, KEY)
    for name in ("router", "statistics", "feeds"):
        started = processes.start(name, installation)
    run("simulate", "2025-12", "--out", "december", "--scale", "0.01")
    files = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "december").glob("*-synthetic.csv"))
    run("import", *files, "--json")
    eventually(lambda: "未统计" not in run("statistics", "refusals", "2025-12"), 60, "the count")
    run("statistics", "close", "2025-12", "--by", "张三", "--reason", "按月关账")
    published = exact(run, "dept_completed")
    counting = Counting(tmp_path / "december")
    assert published == len(counting.firsts("window.case.completed", "project_no", counting.begin))

    late = tmp_path / "december" / "late"
    run("import", *(str(path.relative_to(tmp_path)) for path in sorted(late.glob("*-synthetic.csv"))), "--json")
    eventually(lambda: "未统计" not in run("statistics", "refusals", "2025-12"), 60, "the late ones")
    added, removed = told_late(late)
    assert added
    assert removed
    now = published + len(added) - len(removed)
    assert (exact(run, "dept_completed"), exact(run, "dept_completed", "--now")) == (published, now)
    found = {
        one["published"]["metric_id"]: one for one in json.loads(run("statistics", "adjustments", "2025-12", "--json"))
    }
    completed = found["dept_completed"]
    assert (completed["published"]["exact"], completed["now_known"]["exact"]) == (published, now)
    changes: dict[str, set[str]] = {"added": set(), "removed": set()}
    for one in completed["changes"]:
        changes[one["change"]].add(one["case_key"])
    assert changes == {"added": added, "removed": removed}
    assert all(one["late"] == (one["change"] == "added") for one in completed["changes"])

    issue = json.loads(run("report", "2026-01", "--format", "json"))
    phoned = [
        counting.section_one()["consult_phone"],
        sum(1 for _ in Counting(late).rows("window.consultation.recorded")),
    ]
    (told,) = [sentence for sentence in issue["errata"] if "电话" in sentence]
    assert f"原公布 {phoned[0]} 人/次，现为 {sum(phoned)} 人/次，由 {phoned[1]} 个迟到或更正的事件引起" in told

    run("statistics", "restate", "2025-12", "--by", "李四", "--reason", "迟到办件")
    assert exact(run, "dept_completed") == now
    puller = Puller(started.url, AGENCY, KEY)
    events = eventually(lambda: len(found := puller.get().json) > 1 and found, 30, "the feed")
    closed = [event for event in events if event["type"] == CLOSED]
    restated = {event["data"]["metric_id"]: event["data"] for event in events if event["type"] == RESTATED}
    assert [event["data"]["closed_by"] for event in closed] == ["张三"]
    figures = {one["metric_id"]: one["exact"] for one in closed[0]["data"]["figures"]}
    assert figures["dept_completed"] == str(published)
    assert restated["dept_completed"]["exact_before"] == str(published)
    assert restated["dept_completed"]["exact_after"] == str(now)
    assert restated["dept_completed"]["reason"] == "迟到办件"
    assert {event["source"] for event in events} == {"urn:hongyan:statistics"}


def exact(run: Command, metric: str, *more: str) -> int:
    """Return a figure of December as the command prints it."""
    (found,) = json.loads(run("figure", "2025-12", metric, "--json", *more))
    return int(found["exact"])


def told_late(folder: Path) -> tuple[set[str], set[str]]:
    """Return the cases that the late completions add to December, and those that they take out of it, by the file."""
    counting = Counting(folder)
    added: set[str] = set()
    removed: set[str] = set()
    for at, row in counting.rows("window.case.completed"):
        (added if at >= counting.begin else removed).add(row["project_no"])
    return added, removed
