"""Dead letters are read back beside publishing, never before it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from producers.gateway.acceptance import Acceptance
from producers.gateway.api import READING, READING_WAIT, Gateway, create_app
from producers.gateway.credentials import Credentials
from producers.gateway.decoding import Decoding
from producers.gateway.limits import RateLimits
from producers.gateway.parsing import STRUCTURED
from producers.gateway.preview import Preview
from producers.gateway.remembered import Remembered
from producers.publishing import Publishing
from schemas.codec import Codec
from schemas.contracts import load_contracts
from schemas.topics import Topics
from services.identity.repository import key_digest
from services.quarantine.letters import DeadLetters, Search
from services.runtime.clock import SystemClock
from services.runtime.probes import Health
from services.runtime.settings import GatewaySettings
from services.subscriptions.control import ControlView, Department, Key
from tests.events import ISSUED, SOURCE
from tests.fakes.kafka import FakeKafka
from tests.fakes.schemas import MemorySchemas

KEY = "hyk_test"


class SlowLetters(DeadLetters):
    """A search that takes as long as it is held up."""

    def __init__(self, kafka: FakeKafka, topics: Topics) -> None:
        super().__init__(kafka, topics)
        self.begun, self.go_on = threading.Semaphore(0), threading.Event()

    def search(self, search: Search) -> list[dict[str, Any]]:
        """Find nothing, in the end."""
        self.begun.release()
        self.go_on.wait(20)
        return []


def gateway(letters: SlowLetters, kafka: FakeKafka, topics: Topics) -> FastAPI:
    """Return a gateway that works on one request at a time."""
    contracts, clock, schemas = load_contracts(), SystemClock(), MemorySchemas()
    settings = GatewaySettings(max_in_flight=1, max_waiting=0)
    publishing = Publishing(contracts, schemas, "http://r", topics, settings, clock)
    publishing.register_all()
    department = Department("d", "d", SOURCE, [ISSUED], [Key("key-1", key_digest(KEY))])
    view = ControlView(departments={"d": department}, version=1)
    acceptance = Acceptance(publishing, contracts.types, Remembered(10), clock, settings)
    acceptance.producer = kafka.producer()
    parts = Gateway(
        acceptance,
        Credentials(view, clock, None, lambda: True),
        RateLimits(settings, clock),
        Preview(view, Codec(schemas).decode, contracts, clock),
        publishing,
        Decoding(publishing, clock),
        letters,
        contracts,
        settings,
    )
    return create_app(parts, lambda: Health(True, {}), CollectorRegistry())


async def call(app: FastAPI, method: str, path: str, body: bytes = b"", kind: str = STRUCTURED) -> int:
    """Make a request of the application and return its status."""
    headers = [(b"authorization", f"Bearer {KEY}".encode()), (b"content-type", kind.encode())]
    scope = {"type": "http", "http_version": "1.1", "method": method, "scheme": "http", "path": path}
    scope |= {"raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers}
    statuses: list[int] = []

    async def receive() -> Mapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope, receive, send)  # type: ignore[arg-type]
    return statuses[0]


def test_publishing_goes_on_while_dead_letters_are_read() -> None:
    """As many searches as may run are under way; one more than may wait is told so, and events are taken all along."""
    kafka, topics = FakeKafka(), Topics()
    kafka.admin().ensure_topics([topics.event_spec("health")])
    letters = SlowLetters(kafka, topics)
    app = gateway(letters, kafka, topics)
    event = {"specversion": "1.0", "id": "e1", "type": ISSUED, "data": dict(load_contracts().types[ISSUED].sample)}

    async def run() -> tuple[int, int, list[int]]:
        readings = [asyncio.create_task(call(app, "GET", "/v1/deadletters")) for _ in range(READING + READING_WAIT)]
        for _ in range(READING):
            await asyncio.to_thread(letters.begun.acquire, timeout=10)
        published = await call(app, "POST", "/v1/events", json.dumps(event).encode())
        refused = await call(app, "GET", "/v1/deadletters")
        letters.go_on.set()
        return published, refused, await asyncio.gather(*readings)

    published, refused, readings = asyncio.run(run())
    assert (published, refused, set(readings)) == (202, 503, {200})
