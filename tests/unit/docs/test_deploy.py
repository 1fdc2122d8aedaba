"""The shipped rules, dashboards and scrape configuration name nothing that there is not, and say what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from hongyan import PROCESSES
from services.runtime.alerts import AlertKind
from services.runtime.metrics import ALL
from tests.dashboards import FOLDER, expressions
from tests.prometheus import CONFIGURATION, faster, rules

ROOT = Path(__file__).parents[3]
TARGET = {"job", "instance", "process"}
"""The labels that the scrape configuration gives every series."""
OWN = {"up": (), "ALERTS": ("alertname", "alertstate", "severity", "kind", "agency")}
"""Series that Prometheus makes itself."""
SERIES = {name: set(labels) for spec in ALL for name, labels in spec.series().items()} | {
    name: set(labels) for name, labels in OWN.items()
}
CHINESE, ENGLISH = re.compile("[\u4e00-\u9fff]"), re.compile("[a-z]{3}")


def nodes(node: Any) -> Iterator[Any]:
    """Give a node of a parsed expression and everything below it."""
    yield node
    below = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "param", "vector_selector")]
    for one in (*below, *(getattr(node, "args", None) or ())):
        if one is not None:
            yield from nodes(one)


def problems(expression: str) -> list[str]:
    """Return what is wrong with an expression; it may hold Grafana's variables."""
    text = re.sub(r"\$__rate_interval|\$__range", "5m", expression)
    found = []
    for top in nodes(promql_parser.parse(text)):
        if isinstance(top, promql_parser.VectorSelector):
            known = SERIES.get(top.name or "")
            if known is None:
                found.append(f"no series {top.name}")
                continue
            used = {matcher.name for matcher in top.matchers.matchers}
            found += [f"{top.name} has no label {label}" for label in used - known - TARGET]
        elif isinstance(top, promql_parser.AggregateExpr) and top.modifier is not None:
            inside = {one.name for one in nodes(top.expr) if isinstance(one, promql_parser.VectorSelector)}
            known = set().union(*(SERIES.get(name, set()) for name in inside)) | TARGET
            found += [f"nothing inside has the label {label}" for label in set(top.modifier.labels) - known]
    return found


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_names_what_there_is_and_what_to_do(rule: dict[str, Any]) -> None:
    """Series, labels, a severity, a kind of ours where it has one, a text in both languages, and a heading to read."""
    assert problems(rule["expr"]) == []
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["labels"].get("kind") in {None, *AlertKind}
    summary = rule["annotations"]["summary"]
    assert CHINESE.search(summary)
    assert ENGLISH.search(summary)
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text("utf-8"), re.MULTILINE)
    assert anchor in {heading.strip().lower() for heading in headings}
    assert anchor == rule["alert"].lower()


@pytest.mark.parametrize(("board", "panel", "expression"), list(expressions()))
def test_a_panel_names_what_there_is(board: str, panel: str, expression: str) -> None:
    """A dashboard with a metric that was renamed shows nothing, and nobody notices."""
    assert problems(expression) == []


def test_what_is_wrong_is_found() -> None:
    """The check itself: an unknown series, an unknown label, a grouping by one, and what is no PromQL."""
    assert problems("hongyan_nothing") == ["no series hongyan_nothing"]
    assert problems('sum by (agency) (rate(hongyan_lines{nothing="x"}[5m]))') == [
        "nothing inside has the label agency",
        "hongyan_lines has no label nothing",
    ]
    with pytest.raises(ValueError, match=r"\w"):
        problems("sum(")


def test_dashboards_are_each_their_own_and_say_what_they_show_in_both_languages() -> None:
    """Ids are unique, panels have titles, nothing is fetched from elsewhere."""
    boards = [json.loads(file.read_text("utf-8")) for file in FOLDER.glob("*.json")]
    assert len({board["uid"] for board in boards}) == len(boards) == 3
    for board in boards:
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))
        assert CHINESE.search(board["title"])
        assert "://" not in json.dumps(board)


def test_every_process_of_an_installation_is_scraped_on_its_port() -> None:
    """The example fits what ``hongyan up`` starts."""
    (job,) = yaml.safe_load(CONFIGURATION.read_text("utf-8"))["scrape_configs"]
    told = {one["labels"]["process"]: one["targets"] for one in job["static_configs"]}
    assert told == {name: [f"127.0.0.1:{port}"] for name, (_, port) in PROCESSES.items()}


def test_a_test_shortens_durations_and_nothing_else() -> None:
    """Thresholds stay: 300 seconds are no five minutes of a window."""
    assert faster("increase(a[1h]) > 300 and b[5m] > 14.4 * 0.001") == "increase(a[60s]) > 300 and b[5s] > 14.4 * 0.001"
    assert faster("2m") == "2s"
