"""Registries that run inside the test process, and raw calls to them as any HTTP client makes them."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry

from schemas.topics import Topics
from services.registry.api import create_app
from services.registry.log import RegistryLog
from services.runtime.kafka.port import Kafka, Partition, Record
from tests.conditions import eventually
from tests.fakes.kafka import FakeConsumer, FakeKafka

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"


class PatientConsumer(FakeConsumer):
    """A fake consumer whose poll blocks a moment when there is nothing, so that a following thread doesn't spin."""

    def poll(self, timeout_s: float, max_records: int) -> Mapping[Partition, Sequence[Record]]:
        found = super().poll(timeout_s, max_records)
        if not found:
            threading.Event().wait(0.002)
        return found

    def beginning_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        assert isinstance(self._cluster, PatientKafka)
        return dict.fromkeys(partitions, self._cluster.first)

    def close(self) -> None:
        assert isinstance(self._cluster, PatientKafka)
        self._cluster.closed += 1


class PatientKafka(FakeKafka):
    """The fake with consumers that wait; ``first`` is the first offset kept, ``closed`` counts closed consumers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = 0
        self.closed = 0

    def consumer(
        self,
        group: str | None,
        *,
        client_id: str = "hongyan",
        instance: str | None = None,
        from_end: bool = False,
        bulk: bool = False,
        exact: bool = False,
    ) -> FakeConsumer:
        self.check()
        return PatientConsumer(self, group, next(self._ids), instance, from_end=from_end, exact=exact)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: status, headers (lower case) and the JSON body."""

    status: int
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class RunningRegistry:
    """A registry that answers on a port of its own."""

    url: str
    port: int
    log: RegistryLog

    def call(self, method: str, path: str, body: object = None, content_type: str = CONTENT_TYPE) -> Answer:
        """Make one call; a body that is no string is sent as JSON."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=15)
        payload = body if isinstance(body, str | bytes) or body is None else json.dumps(body)
        try:
            connection.request(method, path, payload, {"Content-Type": content_type})
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            text = response.read().decode()
            return Answer(response.status, headers, json.loads(text) if "json" in headers["content-type"] else text)
        finally:
            connection.close()

    def register(self, subject: str, schema: object) -> Answer:
        """Register a schema under a subject."""
        return self.call("POST", f"/subjects/{subject}/versions", {"schema": json.dumps(schema)})


@contextmanager
def run_registry(kafka: Kafka, topics: Topics, *, wait: bool = True) -> Iterator[RunningRegistry]:
    """Run a registry on the log of these topics until the block ends."""
    stop = threading.Event()
    log = RegistryLog(kafka, topics)
    follower = threading.Thread(target=log.run, args=(stop,))
    config = uvicorn.Config(create_app(log, CollectorRegistry()), port=0, log_level="warning", http="h11")
    server = uvicorn.Server(config)
    serving = threading.Thread(target=server.run)
    follower.start()
    serving.start()
    try:
        eventually(lambda: server.started, what="the HTTP server")
        port = server.servers[0].sockets[0].getsockname()[1]
        if wait:
            eventually(lambda: log.ready and log.writable, what="the registry's log")
        yield RunningRegistry(f"http://127.0.0.1:{port}", port, log)
    finally:
        server.should_exit = True
        stop.set()
        serving.join(15)
        follower.join(15)
    assert not serving.is_alive()
    assert not follower.is_alive()
