"""A registry that is away: nothing for schemas already seen, a clear retriable error for new ones."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from schemas.contracts import load_contracts
from services.runtime.embedded.ports import free_port
from services.runtime.settings import Settings
from tests.conditions import eventually
from tests.configuration import Configuration
from tests.events import ACCEPTED, ISSUED, SOURCE
from tests.processes import Processes, Running

pytestmark = pytest.mark.servers

KEY = "hyk_test"


def post(gateway: Running, event_id: str, kind: str) -> tuple[int, dict[str, Any], str | None]:
    """Publish a type's sample; return the status, the body and Retry-After."""
    event = {"specversion": "1.0", "id": event_id, "type": kind, "data": load_contracts().types[kind].sample}
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/cloudevents+json"}
    request = urllib.request.Request(f"{gateway.url}/v1/events", json.dumps(event).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer), None
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), error.headers["Retry-After"]


def test_a_schema_that_the_registry_refuses_is_waited_for(
    installation: Settings, configuration: Configuration, processes: Processes
) -> None:
    """The subject holds what ours is not compatible with: publishers hear which, and an operator mends it meanwhile."""
    configuration.department("all", SOURCE, KEY, [ACCEPTED])
    port = free_port()
    installation.registry.url = f"http://127.0.0.1:{port}"
    processes.start("registry", installation, port=port)
    subject = load_contracts().types[ACCEPTED].subject
    namespace, _, name = subject.rpartition(".")
    other = {"type": "record", "name": name, "namespace": namespace, "fields": [{"name": "division", "type": "int"}]}
    call(f"{installation.registry.url}/subjects/{subject}/versions", "POST", {"schema": json.dumps(other)})
    gateway = processes.start("gateway", installation, wait=False)

    def refusal() -> str:
        try:
            return str(post(gateway, "new", ACCEPTED)[1].get("detail"))
        except urllib.error.URLError:
            return ""  # it does not listen yet

    eventually(lambda: f"不接受 {subject}" in refusal(), 40)
    assert not gateway.healthy()
    call(f"{installation.registry.url}/config/{subject}", "PUT", {"compatibility": "NONE"})
    eventually(lambda: post(gateway, "new", ACCEPTED)[0] == 202, 40)


def call(url: str, method: str, body: dict[str, Any]) -> None:
    """Ask the registry."""
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)):
        pass


def test_what_was_seen_goes_on_and_what_is_new_is_told_to_come_again(
    installation: Settings, configuration: Configuration, processes: Processes
) -> None:
    """One gateway has seen the schemas before the registry is killed, the other starts without one."""
    configuration.department("all", SOURCE, KEY, [ACCEPTED, ISSUED])
    port = free_port()
    installation.registry.url = f"http://127.0.0.1:{port}"
    registry = processes.start("registry", installation, port=port)
    seen = processes.start("gateway", installation)
    registry.kill()
    assert [post(seen, f"seen-{kind}", kind)[0] for kind in (ACCEPTED, ISSUED)] == [202, 202]
    fresh = processes.start("gateway", installation, wait=False)

    def refusal() -> tuple[int, dict[str, Any], str | None] | None:
        try:
            found = post(fresh, "new", ACCEPTED)
        except urllib.error.URLError:
            return None  # it does not listen yet
        return found if "schema registry" in found[1].get("detail", "") else None

    status, body, retry_after = eventually(refusal, 40)
    assert (status, body["status"]) == (503, 503)
    assert int(retry_after or 0) > 0
    processes.start("registry", installation, port=port)
    eventually(lambda: post(fresh, "new", ACCEPTED)[0] == 202, 40)
