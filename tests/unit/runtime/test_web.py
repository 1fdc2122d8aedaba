"""What every HTTP process does with a client that goes away."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

from fastapi import Request
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from services.runtime.probes import Health
from services.runtime.web import new_app


def test_a_client_that_leaves_before_its_body_is_sent_is_no_error_of_ours() -> None:
    """Nothing is raised to the server, which would log it, and nothing is logged."""
    app = new_app("test", lambda: Health(True, {}), CollectorRegistry())

    @app.post("/")
    async def read(request: Request) -> int:
        return sum([len(part) async for part in request.stream()])

    said = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    answered: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return said.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        answered.append(message)

    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/", "query_string": b"", "headers": []}
    with capture_logs() as logs:
        asyncio.run(app(scope, receive, send))
    assert logs == []
    assert answered[0]["status"] == 499
