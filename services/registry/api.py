"""The Confluent schema registry's REST API, as stock clients of any language use it.

Errors have the API's own form, ``{"error_code", "message"}``. Different from Confluent's: an absent Kafka is 503 with
``Retry-After`` (theirs is 500), a schema's id outlives permanent deletion, and references, metadata, rule sets,
contexts and mode IMPORT are refused.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from schemas.registry_client import CONTENT_TYPE
from services.registry.configuration import level_routes, mode_routes
from services.registry.log import RegistryLog
from services.registry.state import RefusedError
from services.registry.subjects import (
    compatibility_routes,
    schema_routes,
    subject_routes,
    writing_routes,
)
from services.runtime.errors import UnavailableError
from services.runtime.measuring import CollectorRegistry
from services.runtime.metrics import REGISTRY_ENTRIES, REGISTRY_READY, REGISTRY_WRITABLE
from services.runtime.probes import Health
from services.runtime.web import RETRY_AFTER_S, new_app

_ROUTES = (subject_routes, schema_routes, writing_routes, compatibility_routes, level_routes, mode_routes)


class RegistryResponse(JSONResponse):
    """An answer in the API's content type."""

    media_type = CONTENT_TYPE


def create_app(log: RegistryLog, metrics: CollectorRegistry) -> FastAPI:
    """Return the application over a log that is being folded."""
    _measure(log, metrics)
    app = new_app("Hongyan schema registry", lambda: _health(log), metrics)
    for routes in _ROUTES:
        app.include_router(routes(log), default_response_class=RegistryResponse)

    @app.get("/", response_class=RegistryResponse)
    async def root() -> dict[str, Any]:
        return {}

    @app.get("/contexts", response_class=RegistryResponse)
    async def contexts() -> list[str]:
        return ["."]

    _answer_errors(app)
    return app


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(RefusedError)
    async def _refused(_request: Request, error: RefusedError) -> JSONResponse:
        return _error(error.status, error.code, str(error))

    @app.exception_handler(UnavailableError)
    async def _away(_request: Request, error: UnavailableError) -> JSONResponse:
        return _error(503, 50003, f"{error}; try again later", {"Retry-After": str(RETRY_AFTER_S)})

    @app.exception_handler(RequestValidationError)
    async def _bad(_request: Request, error: RequestValidationError) -> JSONResponse:
        bad = "; ".join(f"{'/'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        return _error(422, 422, f"Invalid request: {bad}")

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> JSONResponse:
        return _error(error.status_code, error.status_code, f"HTTP {error.status_code} {error.detail}")

    @app.exception_handler(Exception)
    async def _unexpected(_request: Request, error: Exception) -> JSONResponse:
        return _error(500, 50001, f"Error in the backend: {type(error).__name__}")


def _error(status: int, code: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return RegistryResponse({"error_code": code, "message": message}, status, headers)


def _health(log: RegistryLog) -> Health:
    return Health(log.ready, {"entries": log.offset, "writable": log.writable})


def _measure(log: RegistryLog, metrics: CollectorRegistry) -> None:
    REGISTRY_READY.asked(metrics, lambda: float(log.ready))
    REGISTRY_WRITABLE.asked(metrics, lambda: float(log.writable))
    REGISTRY_ENTRIES.asked(metrics, lambda: float(log.offset))
