"""``POST /v1/events``: CloudEvents in, an answer only after Kafka's acknowledgement."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Histogram

from producers.gateway.acceptance import Acceptance, RightMissingError, UnauthenticatedError
from producers.gateway.parsing import TooLargeError, UnsupportedMediaTypeError, parse
from producers.publishing import Publishing
from services.runtime.probes import Health
from services.runtime.settings import GatewaySettings
from services.runtime.web import new_app, problem

IN_FLIGHT = 64


def create_app(
    acceptance: Acceptance,
    publishing: Publishing,
    settings: GatewaySettings,
    health: Callable[[], Health],
    metrics: CollectorRegistry,
) -> FastAPI:
    """Return the gateway's application."""
    app = new_app("Hongyan gateway", health, metrics)
    accepted_total = Counter("hongyan_gateway_events", "Accepted events", ["type"], registry=metrics)
    seconds = Histogram("hongyan_gateway_seconds", "Seconds from request to acknowledgement", registry=metrics)
    room = asyncio.Semaphore(IN_FLIGHT)
    _problem_handlers(app)

    @app.post("/v1/events", status_code=202)
    async def publish(request: Request) -> dict[str, Any]:
        with seconds.time():
            department = acceptance.authenticate(request.headers.get("authorization", ""))
            async with room:
                body = await _read(request, settings.max_body_bytes)
                kind = request.headers.get("content-type", "")
                events = parse(kind, request.headers, body, publishing.decode_data, settings.max_batch)
                accepted = await acceptance.publish(acceptance.prepare(department, events))
        for one in accepted:
            accepted_total.labels(one.prepared.envelope.type).inc()
        return {"accepted": len(accepted), "events": [one.to_json() for one in accepted]}

    return app


async def _read(request: Request, limit: int) -> bytes:
    """Read the body, and stop as soon as it is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise TooLargeError(f"请求体最大 {limit} 字节 (the body is larger than {limit} bytes)")
    return bytes(body)


def _problem_handlers(app: FastAPI) -> None:
    @app.exception_handler(UnauthenticatedError)
    def _unauthenticated(_request: Request, error: UnauthenticatedError) -> JSONResponse:
        return problem(401, str(error))

    @app.exception_handler(RightMissingError)
    def _forbidden(_request: Request, error: RightMissingError) -> JSONResponse:
        return problem(403, str(error), error.problems)

    @app.exception_handler(TooLargeError)
    def _too_large(_request: Request, error: TooLargeError) -> JSONResponse:
        return problem(413, str(error))

    @app.exception_handler(UnsupportedMediaTypeError)
    def _unsupported(_request: Request, error: UnsupportedMediaTypeError) -> JSONResponse:
        return problem(415, str(error))
