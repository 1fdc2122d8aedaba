"""Every metric is typed in one place, by Prometheus' conventions, and what processes count is bounded."""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator

import pytest
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient

from hongyan import ATTACHED, PROCESSES
from services.runtime import metrics
from services.runtime.errors import UnavailableError
from services.runtime.exposition import new_registry
from services.runtime.kafka.health import KafkaClients
from services.runtime.lifecycle import outlast
from services.runtime.measuring import SUFFIXES, CounterSpec, Spec
from services.runtime.probes import Health
from services.runtime.web import new_app

CHINESE = re.compile("[\u4e00-\u9fff]")


@pytest.mark.parametrize("spec", metrics.ALL, ids=lambda spec: spec.name)
def test_a_name_follows_the_conventions_and_its_meaning_is_said_in_both_languages(spec: Spec) -> None:
    """Counters end with ``_total`` and nothing else does; a unit is a base unit, and the name ends with it."""
    name = spec.name.removesuffix("_total")
    assert (name != spec.name) == isinstance(spec, CounterSpec)
    assert name.endswith(SUFFIXES[spec.unit])
    assert spec.unit or not re.search(r"_(ms|milliseconds|minutes|hours|kb|mb|seconds|bytes)$", name)
    assert re.fullmatch(r"(hongyan|process)(_[a-z0-9]+)+", spec.name)
    assert CHINESE.search(spec.zh)
    assert not CHINESE.search(spec.en)


def test_names_are_spelled_once_and_processes_exist() -> None:
    """One spec for a name, and no metric of a process that there is not."""
    names = [spec.name for spec in metrics.ALL]
    assert len(names) == len(set(names))
    told = {process for spec in metrics.ALL for process in spec.processes}
    assert told == PROCESSES.keys() | ATTACHED.keys() | {"client"}


def test_requests_are_counted_by_the_template_of_their_route() -> None:
    """A thousand ids are one route; what has no route, and odd methods, are each one label."""
    registry = new_registry()
    app = new_app("test", lambda: Health(True), registry)

    @app.get("/agencies/{agency}")
    async def agency(agency: str) -> str:
        return agency

    routes = APIRouter(prefix="/v1/feeds/{agency}")

    @routes.get("/away")
    async def away(agency: str) -> str:
        raise UnavailableError(agency)

    app.include_router(routes)
    with TestClient(app) as client:
        for number in range(5):
            client.get(f"/agencies/{number}")
            client.get(f"/nowhere/{number}")
            client.request(f"ODD{number}", "/agencies/1")
            client.get(f"/v1/feeds/{number}/away")
        client.get("/metrics")

    def count(method: str, route: str, status: str) -> float | None:
        labels = {"method": method, "route": route, "status": status}
        return registry.get_sample_value("hongyan_http_requests_total", labels)

    assert count("GET", "/agencies/{agency}", "200") == 5
    assert count("GET", "(none)", "404") == 5
    assert count("GET", "/v1/feeds/{agency}/away", "503") == 5
    (found,) = [family for family in registry.collect() if family.name == "hongyan_http_requests"]
    assert {(s.labels["method"], s.labels["route"]) for s in found.samples} == {
        ("GET", "/agencies/{agency}"),
        ("GET", "(none)"),
        ("GET", "/v1/feeds/{agency}/away"),
        ("other", "/agencies/{agency}"),
    }


def test_a_stream_is_timed_to_its_beginning() -> None:
    """While it lasts its beginning is counted already: a stream of hours is no slow answer."""
    registry = new_registry()
    app = new_app("test", lambda: Health(True), registry)
    labels = {"method": "GET", "route": "/stream"}
    seen: list[float | None] = []

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            seen.append(registry.get_sample_value("hongyan_http_request_seconds_count", labels))
            yield b"last"

        return StreamingResponse(parts())

    with TestClient(app) as client:
        assert client.get("/stream").content == b"firstlast"
    assert seen == [1]


def test_a_process_tells_whether_it_works_and_what_it_waited_for() -> None:
    """Its health, its outages (each once, however long), its version and its memory stand on its page."""
    registry, well, tries = new_registry(), [True], iter(range(4))
    new_app("test", lambda: Health(well[0]), registry)
    assert registry.get_sample_value("hongyan_working") == 1
    well[0] = False
    assert registry.get_sample_value("hongyan_working") == 0

    def attempt() -> str:
        if next(tries) < 3:
            raise UnavailableError("away")
        return "done"

    assert outlast("test_work", attempt, threading.Event(), retry_s=0) == "done"
    assert registry.get_sample_value("hongyan_interruptions_total", {"what": "test_work"}) == 1
    assert (registry.get_sample_value("process_resident_memory_bytes") or 0) > 1e6
    assert [family for family in registry.collect() if family.name == "hongyan_build_info"]


class _Consumer:
    def __init__(self, partitions: int) -> None:
        self._partitions = partitions

    def reads(self) -> int:
        return self._partitions


def test_kafka_clients_are_told_of_while_they_are_open_and_what_they_did_stays_counted() -> None:
    """A client built anew goes on counting under its name; one that an outage has closed stands still meanwhile."""
    clients = KafkaClients()

    def value(name: str) -> dict[str, float]:
        found = (s for family in clients.collect() for s in family.samples if s.name == name)
        return {next(iter(s.labels.values()), ""): s.value for s in found}

    first, second = _Consumer(12), _Consumer(3)
    clients.consumer("router-0", first).polled(10)
    clients.closed(first)
    assert value("hongyan_kafka_clients") == {"consumer": 0, "producer": 0}
    stood = value("hongyan_kafka_polled_timestamp_seconds")["router-0"]
    clients.consumer("router-0", second).polled(5)
    assert value("hongyan_kafka_consumed_records_total") == {"router-0": 15}
    assert value("hongyan_kafka_assigned_partitions") == {"router-0": 3}
    assert value("hongyan_kafka_clients") == {"consumer": 1, "producer": 0}
    assert value("hongyan_kafka_polled_timestamp_seconds")["router-0"] >= stood
