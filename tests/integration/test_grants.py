"""Grants from application to end, on real servers: who may do what, what is refused, and what is left when it is."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import psycopg
import pytest

from schemas.contracts import load_contracts
from services.routing.fields import union_id
from services.routing.redaction import derived_subject
from services.runtime.database import dsn_of
from services.runtime.kafka.port import Kafka
from services.runtime.settings import Settings
from services.subscriptions.control import policy_id
from services.subscriptions.follower import ControlFollower
from tests.conditions import eventually
from tests.conftest import OwnTopics
from tests.events import ARREARS, ISSUED, REVOKED
from tests.portal import LAW, Portal, start_portal
from tests.processes import Processes

pytestmark = pytest.mark.servers
GRANT = {"agency": "market", "types": [ISSUED], **LAW, "by": "market-zhang"}
BOTH = {"id": "both", "name": "赵六", "agency": "market", "department": "health", "approves": [ISSUED]}


@pytest.fixture
def portal(installation: Settings, processes: Processes) -> Portal:
    """A portal with an agency, two departments, and people of each."""
    found = start_portal(installation, processes)
    found.agency("market")
    found.agency("chengdu", "510100")
    found.department("health", [ISSUED, REVOKED])
    found.department("tax", [ARREARS])
    found.person(BOTH)
    return found


@pytest.fixture
def follower(kafka: Kafka, own: OwnTopics) -> Iterator[ControlFollower]:
    """Follows the control topic as router and pusher do."""
    stop = threading.Event()
    found = ControlFollower(kafka, [own.control_subscriptions], "test")
    found.start(stop)
    yield found
    stop.set()


def kept(installation: Settings) -> list[Any]:
    """Return everything that is kept of grants, once what was decided before is on its way to the routers."""
    with psycopg.connect(dsn_of(installation.database), autocommit=True) as connection:

        def rows(table: str) -> list[Any]:
            return connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3").fetchall()

        eventually(lambda: not rows("control_outbox"), 20, "an empty outbox")
        return [rows(table) for table in ("subscription", "subscription_version", "decision")]


def test_a_grant_goes_its_whole_way_by_commands(portal: Portal, follower: ControlFollower) -> None:
    """Draft, submitted, returned, changed, submitted, approved, suspended, resumed, terminated: each is on record."""
    law = [part for name, text in LAW.items() for part in (f"--{name.replace('_', '-')}", text)]

    def said(*arguments: str) -> str:
        done = portal.command("subscription", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    draft = said("draft", "--agency", "market", "--type", ISSUED, *law, "--by", "market-zhang")
    name = draft.split()[0]
    said("submit", name, "--by", "market-zhang")
    said("return", name, "--by", "health-li", "--reason", "范围过宽")
    narrower = ["--filter", '{"prefix": {"division": "5101"}}', "--fields", '{"levels": ["public"]}']
    said("draft", "--edit", name, "--agency", "market", "--type", ISSUED, *law, *narrower, "--by", "market-zhang")
    said("submit", name, "--by", "market-zhang")
    assert not follower.view.subscriptions
    assert "active" in said("approve", name, "--by", "health-li", "--reason", "依法共享")
    assert name in said("list")
    eventually(lambda: name in follower.view.subscriptions)
    assert follower.view.subscriptions[name].policy() in follower.view.policies
    said("suspend", name, "--reason", "超范围使用")
    said("resume", name, "--by", "health-li", "--reason", "整改完成")
    assert "terminated" in said("terminate", name, "--by", "market-zhang", "--reason", "不再需要")
    eventually(lambda: follower.view.subscriptions[name].state == "terminated")
    shown = portal.done(f"/v1/subscriptions/{name}")
    assert [(d["version"], d["action"], d["decided_by"]) for d in shown["decisions"]] == [
        (1, "draft", "market-zhang"),
        (2, "submit", "market-zhang"),
        (3, "return", "health-li"),
        (4, "edit", "market-zhang"),
        (5, "submit", "market-zhang"),
        (6, "approve", "health-li"),
        (7, "suspend", "administrator"),
        (8, "resume", "health-li"),
        (9, "terminate", "market-zhang"),
    ]
    assert {d["entered_by"] for d in shown["decisions"]} == {"administrator"}
    assert "health-li" in said("show", name)


def test_people_act_with_their_own_keys_and_see_what_is_theirs(portal: Portal) -> None:
    """A person's key needs no name, and takes none but their own; others' grants are not shown."""
    zhang, li = portal.keys["market-zhang"], portal.keys["health-li"]
    body = {key: value for key, value in GRANT.items() if key != "by"}
    name = portal.done("/v1/subscriptions", body, key=zhang)["id"]
    path = f"/v1/subscriptions/{name}"
    assert portal.ask(path + "/submit", {"reason": "r", "by": "health-li"}, key=zhang)[0] == 403
    portal.done(path + "/submit", {"reason": "r"}, key=zhang)
    assert portal.ask(path + "/approve", {"reason": "r"}, key=zhang)[0] == 403
    portal.done(path + "/approve", {"reason": "r"}, key=li)
    decided = portal.done(path, key=zhang)["decisions"]
    assert [one["entered_by"] for one in decided] == ["market-zhang", "market-zhang", "health-li"]
    for stranger in ("chengdu-zhang", "tax-li"):
        assert portal.done("/v1/subscriptions", key=portal.keys[stranger]) == []
        assert portal.ask(path, key=portal.keys[stranger])[0] == 403
        assert portal.ask(path + "/suspend", {"reason": "r"}, key=portal.keys[stranger])[0] == 403
    assert portal.ask("/v1/people", key=zhang)[0] == 403
    assert portal.ask("/v1/subscriptions", key="hyp_unknown")[0] == 401


def test_the_applicant_cannot_approve_and_nothing_is_left_of_the_attempt(
    portal: Portal, installation: Settings
) -> None:
    """Whether drafted or submitted by them, in one call or in three."""
    before = kept(installation)
    one_call = {**GRANT, "by": "both", "approve_by": "both"}
    status, problem = portal.ask("/v1/subscriptions", one_call)
    assert (status, "another person" in problem["detail"]) == (403, True)
    assert kept(installation) == before
    name = portal.done("/v1/subscriptions", {**GRANT, "by": "both"})["id"]
    portal.done(f"/v1/subscriptions/{name}/submit", {"reason": "r", "by": "market-zhang"})
    before = kept(installation)
    for nobody in ("both", "market-zhang", "tax-li", None):
        assert portal.ask(f"/v1/subscriptions/{name}/approve", {"reason": "r", "by": nobody})[0] == 403
    assert kept(installation) == before


def test_of_two_approvals_at_once_one_counts(portal: Portal) -> None:
    """The other is told that the state has changed; there is one decision."""
    portal.person({"id": "health-wu", "name": "吴七", "department": "health", "approves": [ISSUED]})
    name = portal.done("/v1/subscriptions", GRANT)["id"]
    version = portal.done(f"/v1/subscriptions/{name}/submit", {"reason": "r", "by": "market-zhang"})["version"]
    barrier = threading.Barrier(2)

    def approve(person: str) -> int:
        barrier.wait()
        body = {"reason": "r", "by": person, "version": version}
        return portal.ask(f"/v1/subscriptions/{name}/approve", body)[0]

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(approve, ["health-li", "health-wu"])) == [200, 409]
    assert [d["action"] for d in portal.done(f"/v1/subscriptions/{name}")["decisions"]].count("approve") == 1
    assert portal.ask(f"/v1/subscriptions/{name}/suspend", {"reason": "r", "version": version})[0] == 409


def test_what_is_not_in_order_is_refused_by_field(portal: Portal, installation: Settings) -> None:
    """Types, filters, fields, times, reach: each bad one is named, and nothing is kept of the application."""
    before = kept(installation)
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    refused: dict[str, dict[str, Any]] = {
        "/types/0": {"types": ["nothing"]},
        "/filters/0/like": {"filters": [{"like": {"type": "x"}}]},
        "/filters/0/cel": {"filters": [{"cel": "data.bedz > 100"}]},
        "/filters/0/exact/divison": {"filters": [{"exact": {"divison": "51"}}]},
        "/filters/0/not/cel": {"filters": [{"not": {"cel": "data.beds >"}}]},
        "/fields/grant/0": {"fields": {"levels": [], "grant": ["mobile"]}},
        "/fields/levels/1": {"fields": {"levels": ["public", "secret"]}},
        "/fields/hide": {"fields": {"hide": ["phone"]}},
        "/valid_until": {"valid_until": yesterday},
        "/valid_from": {"valid_from": "2999-02-01", "valid_until": "2999-01-01"},
        "/backfill_from": {"backfill_from": "2999-01-01"},
        "/divisions/0": {"divisions": ["99"]},
        "/forward_to/0": {"forward_to": ["nobody"]},
        "/replaces": {"replaces": "sub-000000000000"},
        "/agency": {"agency": "nobody"},
    }
    for pointer, change in refused.items():
        status, problem = portal.ask("/v1/subscriptions", {**GRANT, **change})
        assert (status, [e["pointer"] for e in problem["errors"]]) == (422, [pointer]), problem
    assert kept(installation) == before


def test_nothing_is_submitted_without_saying_until_when_it_may_be_used(portal: Portal, installation: Settings) -> None:
    """A draft may leave it open; an application in one call leaves no draft behind."""
    endless = {name: value for name, value in GRANT.items() if name != "valid_until"}
    before = kept(installation)
    one_call = {**endless, "approve_by": "health-li"}
    name = portal.done("/v1/subscriptions", endless)["id"]
    asked = [
        ("/v1/subscriptions", one_call),
        (f"/v1/subscriptions/{name}/submit", {"reason": "r", "by": "market-zhang"}),
    ]
    for path, body in asked:
        status, problem = portal.ask(path, body)
        assert (status, [e["pointer"] for e in problem["errors"]]) == (422, ["/valid_until"])
    assert len(kept(installation)[0]) == len(before[0]) + 1
    assert portal.done(f"/v1/subscriptions/{name}")["state"] == "draft"


def test_an_approval_makes_the_schemas_known_that_events_may_need(portal: Portal, installation: Settings) -> None:
    """The grant's own, and those of its union with the agency's other grants of the type: any may match at once."""
    policies = [{"levels": ["public"], "drop": [name]} for name in ("phone", "address", "beds")]
    for fields in policies:
        portal.grant("market", "health", [ISSUED], fields=fields)
    with urllib.request.urlopen(f"{installation.registry.url}/subjects", timeout=10) as answer:
        known = set(json.load(answer))
    ids = [policy_id(fields) for fields in policies]
    unions = {union_id(chosen) for count in (1, 2, 3) for chosen in combinations(ids, count)}
    assert len(unions) == 7
    assert {derived_subject(load_contracts().types[ISSUED].schema, one) for one in unions} <= known


def test_a_city_cannot_forward_to_its_province(portal: Portal) -> None:
    """省→市州 goes downwards alone."""
    upwards = {**GRANT, "agency": "chengdu", "by": "chengdu-zhang", "forward_to": ["market"]}
    assert portal.ask("/v1/subscriptions", upwards)[1]["errors"][0]["pointer"] == "/forward_to/0"
    elsewhere = {**GRANT, "forward_to": ["chengdu"], "divisions": ["5107"]}
    refused = portal.ask("/v1/subscriptions", elsewhere)[1]["errors"][0]
    assert (refused["pointer"], "outside" in refused["detail"]) == ("/forward_to/0", True)
    portal.grant("market", "health", [ISSUED], forward_to=["chengdu"])


def test_a_grant_expires_by_itself(portal: Portal) -> None:
    """Nobody acts: the state that is shown changes with the clock, and what is past its time is not resumed."""
    soon = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
    name = portal.grant("market", "health", [ISSUED], valid_until=soon)
    assert portal.done(f"/v1/subscriptions/{name}/suspend", {"reason": "r"})["state"] == "suspended"
    eventually(lambda: portal.done(f"/v1/subscriptions/{name}")["state"] == "expired", 10)
    assert portal.ask(f"/v1/subscriptions/{name}/resume", {"reason": "r"})[0] == 409
    later = (datetime.now(UTC) + timedelta(days=9)).isoformat()
    name = portal.grant("market", "health", [ISSUED], valid_from=later)
    assert portal.done(f"/v1/subscriptions/{name}")["state"] == "approved"


def test_a_grant_takes_anothers_place_at_once(portal: Portal, follower: ControlFollower) -> None:
    """The new one is in force before the old one has ended, by one decision."""
    old = portal.grant("market", "health", [ISSUED])
    new = portal.grant("market", "health", [ISSUED, REVOKED], replaces=old)
    subscriptions = follower.view.subscriptions
    eventually(lambda: old in subscriptions and subscriptions[old].state == "terminated")
    assert subscriptions[new].state == "active"
    assert portal.done(f"/v1/subscriptions/{old}")["decisions"][-1]["decided_by"] == "health-li"
