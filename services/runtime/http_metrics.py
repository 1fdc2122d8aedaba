"""Counts and times what an HTTP process answers, by route template, so that labels are bounded whatever is asked."""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.runtime.measuring import CollectorRegistry
from services.runtime.metrics import HTTP_REQUESTS, HTTP_SECONDS

UNCOUNTED = frozenset({"/metrics", "/health"})
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NO_ROUTE = "(none)"
OTHER = "other"


class HttpMetrics:
    """An ASGI layer around the whole application."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._requests = HTTP_REQUESTS.on(registry)
        self._seconds = HTTP_SECONDS.on(registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count it when its answer begins."""
        if scope["type"] != "http" or scope["path"] in UNCOUNTED:
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(scope, message["status"], time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, watched)

    def _count(self, scope: MutableMapping[str, Any], status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else OTHER
        route = route_of(scope)
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


def route_of(scope: MutableMapping[str, Any]) -> str:
    """Return the template of the route that a request was given to, the mount's where files are served."""
    route = scope.get("route")
    path: str | None = getattr(route, "path", None)
    if path is not None:
        return path
    root = scope.get("root_path", "")
    return f"{root}/" if root and "endpoint" in scope else NO_ROUTE
