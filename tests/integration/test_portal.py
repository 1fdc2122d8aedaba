"""The administration API on real servers: what it adds, what it refuses, and how soon it works."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import orjson
import psycopg
import pytest

from services.runtime.database import dsn_of
from services.runtime.kafka.port import Kafka
from services.runtime.settings import Settings, as_environment, with_environment
from services.subscriptions.follower import ControlFollower
from tests.conditions import eventually
from tests.conftest import OwnTopics
from tests.events import ISSUED, REVOKED
from tests.processes import Processes

pytestmark = pytest.mark.servers

Call = Callable[..., tuple[int, dict[str, Any]]]
AGENCY = {"id": "market", "name": "省市场监管局", "division": "510000", "sink": "http://127.0.0.1:9/hook"}
LAW = {"basis": "b", "scene": "s", "scope": "c", "method": "m", "valid_until": "2099-01-01"}
GRANT = {"agency": "market", "types": [ISSUED], **LAW, "by": "zhang", "approve_by": "li"}
DEPARTMENT = {"id": "health", "name": "省卫生健康委", "source": "urn:h", "types": [ISSUED]}
PEOPLE = (
    {"id": "zhang", "name": "张三", "agency": "market"},
    {"id": "li", "name": "李四", "department": "health", "approves": [ISSUED]},
)


@pytest.fixture
def call(installation: Settings, processes: Processes) -> Call:
    """A portal process and a way to call it."""
    portal = processes.start("portal", installation)
    installation.portal.url = portal.url

    def ask(
        path: str, body: object | None = None, method: str | None = None, key: str = "test-administration-key"
    ) -> tuple[int, dict[str, Any]]:
        payload = json.dumps(body).encode() if body is not None else None
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        request = urllib.request.Request(portal.url + path, payload, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    return ask


@pytest.fixture
def follower(kafka: Kafka, own: OwnTopics) -> Iterator[ControlFollower]:
    """Follows the control topics as router and pusher do."""
    stop = threading.Event()
    found = ControlFollower(kafka, [own.control_subscriptions, own.control_identities], "test")
    found.start(stop)
    yield found
    stop.set()


def prepare(call: Call) -> None:
    """Add the agency, the department, and one person of each."""
    assert call("/v1/agencies", AGENCY)[0] == 201
    assert call("/v1/departments", DEPARTMENT)[0] == 201
    for person in PEOPLE:
        assert call("/v1/people", person)[0] == 201


def rows(installation: Settings) -> tuple[int, ...]:
    """Return how many rows the configuration's tables have."""
    tables = ("department", "agency", "person", "subscription", "decision", "control_outbox")
    with psycopg.connect(dsn_of(installation.database)) as connection:
        counts = [connection.execute(f"SELECT count(*) FROM {table}").fetchone() for table in tables]
    return tuple(row[0] for row in counts if row)


def test_what_is_added_reaches_whoever_follows(call: Call, follower: ControlFollower) -> None:
    """All three are on the control topics; key and secret are given out once, and the secret is kept sealed."""
    assert call("/v1/departments", DEPARTMENT)[1]["key"].startswith("hyk_")
    assert call("/v1/agencies", AGENCY)[1]["secret"].startswith("whsec_")
    assert all(call("/v1/people", person)[1]["key"].startswith("hyp_") for person in PEOPLE)
    assert call("/v1/subscriptions", GRANT)[0] == 201
    view = follower.view
    eventually(lambda: view.departments and view.agencies and view.subscriptions)
    assert view.agencies["market"].keys[0].sealed.startswith("gAAAA")
    shown = call("/v1/agencies")[1][0]  # type: ignore[index]
    assert "secret" not in shown
    assert set(shown["keys"][0]) == {"id", "kind", "public", "created_at", "expires_at"}


def test_a_suspension_reaches_who_follows_the_control_topic(
    call: Call, follower: ControlFollower, record_property: Callable[[str, object], None]
) -> None:
    """From the decision to the followers' view: how long it takes is noted (and measured by the bench ``approval``)."""
    prepare(call)
    name = call("/v1/subscriptions", GRANT)[1]["id"]
    eventually(lambda: name in follower.view.subscriptions)
    began = time.monotonic()
    assert call(f"/v1/subscriptions/{name}/suspend", {"reason": "超范围使用"})[0] == 200
    eventually(lambda: follower.view.subscriptions[name].state == "suspended")
    record_property("suspension_ms", round((time.monotonic() - began) * 1000))
    assert call(f"/v1/subscriptions/{name}/suspend", {"reason": "again"})[0] == 409
    assert call(f"/v1/subscriptions/{name}/resume", {"reason": "整改完成"})[1]["state"] == "active"


def test_what_is_refused_names_its_field_and_changes_nothing(
    call: Call, installation: Settings, kafka: Kafka, own: OwnTopics
) -> None:
    """Unknown type, filter that doesn't compile, sink outside the allow-list, unknown agency, wrong key."""
    prepare(call)
    before = eventually(lambda: (found := rows(installation))[-1] == 0 and found)
    refused = {
        "/types/0": {**GRANT, "types": ["nothing"]},
        "/filters/0/cel": {**GRANT, "filters": [{"cel": "data.beds >"}]},
        "/filters/0/regex": {**GRANT, "filters": [{"regex": {"type": "x"}}]},
        "/agency": {**GRANT, "agency": "nobody"},
        "/valid_until": {**GRANT, "valid_until": "soon"},
        "/method": {key: value for key, value in GRANT.items() if key != "method"},
        "/by": {**GRANT, "by": "nobody"},
        "/basis": {key: value for key, value in GRANT.items() if key != "basis"},
    }
    for pointer, body in refused.items():
        status, problem = call("/v1/subscriptions", body)
        assert (status, [e["pointer"] for e in problem["errors"]]) == (422, [pointer])
    outside = {**AGENCY, "id": "outside", "sink": "http://192.0.2.1/"}
    status, problem = call("/v1/agencies", outside)
    assert (status, problem["errors"][0]["pointer"]) == (422, "/sink")
    status, taken = call("/v1/agencies", AGENCY)
    assert (status, [error["pointer"] for error in taken["errors"]]) == (409, ["/id"])
    assert (AGENCY["id"] in taken["detail"], "duplicate key" in taken["detail"]) == (True, False)
    status, problem = call("/v1/agencies", outside, key="wrong")
    assert (status, "密钥不对" in problem["detail"], "无效" in problem["title"]) == (401, True, True)
    assert "需要管理密钥" in call("/v1/agencies", outside, key="")[1]["detail"]
    assert rows(installation) == before
    with closing(kafka.admin()) as admin:
        assert own.feed("outside") not in admin.list_topics()


def test_a_pushers_request_suspends_the_agency(
    call: Call, follower: ControlFollower, kafka: Kafka, own: OwnTopics
) -> None:
    """What the pusher asks for after a 410 is carried out, and unreadable requests stop nothing."""
    call("/v1/agencies", AGENCY)
    producer = kafka.producer()
    for request in (b"nonsense", orjson.dumps({"kind": "suspend-agency", "agency": "market", "reason": "HTTP 410"})):
        producer.send(own.control_requests, key=b"market", value=request).result(10)
    eventually(lambda: "market" in follower.view.agencies and follower.view.agencies["market"].state == "suspended")


def test_commands_speak_to_people(call: Call, installation: Settings) -> None:
    """The commands print what was added, and one readable line for each bad field."""

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hongyan", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=with_environment(as_environment(installation)),
        )

    added = command("agency", "add", "city", "--name", "成都市市场监管局", "--webhook", "http://127.0.0.1:9/")
    assert added.returncode == 0, added.stderr
    assert "whsec_" in added.stdout
    law = ("--basis", "b", "--scene", "s", "--scope", "c", "--method", "m", "--valid-until", "2099-01-01")
    bad = command("subscription", "draft", "--agency", "city", "--type", "nothing", *law)
    assert bad.returncode == 1
    assert "/types/0" in bad.stderr
    assert "Traceback" not in bad.stderr
    assert "成都市市场监管局" in command("agency", "list").stdout


def test_a_key_is_changed_without_a_gap(call: Call, follower: ControlFollower, installation: Settings) -> None:
    """Two keys are live at most: the new one at once, the old one until the overlap ends; a revoked one is gone."""
    first = call("/v1/departments", DEPARTMENT)[1]
    status, rotated = call("/v1/departments/health/keys", {"reason": "年度更换", "overlap_hours": 1})
    assert status == 201
    assert rotated["key"] != first["key"]
    old, new = rotated["keys"]
    assert (old["expires_at"] is None, new["expires_at"]) == (False, None)
    known = follower.view.departments
    eventually(lambda: "health" in known and len(known["health"].keys) == 2)
    assert call("/v1/departments/health/keys", {"reason": "third"})[0] == 409
    status, left = call(f"/v1/departments/health/keys/{old['id']}/revoke", {"reason": "泄露"})
    assert (status, [key["id"] for key in left["keys"]]) == (200, [new["id"]])
    eventually(lambda: [key.id for key in known["health"].keys] == [new["id"]])
    assert call(f"/v1/departments/health/keys/{old['id']}/revoke", {"reason": "again"})[0] == 404
    assert call("/v1/departments/nobody/keys", {"reason": "r"})[0] == 404
    with psycopg.connect(dsn_of(installation.database)) as connection:
        held = connection.execute("SELECT string_agg(digest, ' ') FROM department_key").fetchone()
        decided = connection.execute("SELECT action, reason FROM decision ORDER BY id").fetchall()
    assert held is not None
    assert first["key"] not in held[0]
    assert decided == [("rotate-key", "年度更换"), ("revoke-key", "泄露")]


def test_a_department_gets_one_more_type(call: Call, follower: ControlFollower) -> None:
    """What is not given stays; whoever follows learns of it; what would not do is named and changes nothing."""
    assert call("/v1/departments", DEPARTMENT)[0] == 201
    types = [*DEPARTMENT["types"], REVOKED]
    status, changed = call("/v1/departments/health", {"types": types, "rate_per_s": 5, "reason": "增加撤销"}, "PATCH")
    assert (status, changed["types"], changed["rate_per_s"]) == (200, types, 5)
    assert (changed["name"], changed["source"]) == (DEPARTMENT["name"], DEPARTMENT["source"])
    known = follower.view.departments
    eventually(lambda: "health" in known and known["health"].types == types)
    assert len(known["health"].keys) == 1
    status, problem = call("/v1/departments/health", {"types": ["nothing"], "reason": "r"}, "PATCH")
    assert (status, problem["errors"][0]["pointer"]) == (422, "/types/0")
    assert call("/v1/departments/nobody", {"name": "n", "reason": "r"}, "PATCH")[0] == 404
    assert call("/v1/departments")[1][0]["types"] == types
    assert call("/v1/departments", {**DEPARTMENT, "id": "x", "source": "not a uri"})[0] == 422


def test_a_department_is_limited_to_divisions(call: Call) -> None:
    """A code stands for all below it; one that is in no table, or a type that was not given, is named."""
    department = {"id": "city", "name": "成都市卫生健康委", "source": "urn:c", "types": [ISSUED]}
    status, added = call("/v1/departments", {**department, "divisions": {"*": ["510100"]}})
    assert (status, added["divisions"]) == (201, {"*": ["5101"]})
    wrong = {**department, "id": "other", "divisions": {"*": ["99"], "nothing": ["51"]}}
    status, problem = call("/v1/departments", wrong)
    assert (status, {e["pointer"] for e in problem["errors"]}) == (422, {"/divisions/*/0", "/divisions/nothing"})


def test_key_commands_speak_to_people(call: Call, installation: Settings) -> None:
    """A department is added with its limits, its key changed and the old one revoked, all by command."""

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "hongyan", "department", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=with_environment(as_environment(installation)),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    limits = ("--division", "5101", "--client-id", "health-system", "--rate", "50", "--burst", "100")
    command("add", "health", "--name", "卫健委", "--source", "urn:h", "--type", ISSUED, *limits)
    assert "hyk_" in command("key", "rotate", "health", "--reason", "年度更换", "--overlap-hours", "2")
    live = json.loads(command("key", "list", "health", "--json"))
    assert len(live) == 2
    command("key", "revoke", "health", live[0]["id"], "--reason", "泄露")
    assert [key["id"] for key in json.loads(command("key", "list", "health", "--json"))] == [live[1]["id"]]


def test_statistics_are_told_with_the_key_alone(call: Call) -> None:
    """Closed months as a list, one figure as it stands; a month that is not closed can't be downloaded."""
    assert call("/v1/statistics/months") == (200, [])
    status, figure = call("/v1/statistics/figures/items_handled/2025-12")
    assert (status, figure["exact"], figure["basis"]) == (200, 0, "log")
    assert call("/v1/statistics/months/2025-12.csv")[0] == 409
    assert call("/v1/statistics/figures/nothing/2025-12")[0] == 404
    assert call("/v1/statistics/months", key="wrong")[0] == 401
