"""What every HTTP process shares: RFC 9457 problem documents, ``/health``, ``/metrics`` and a graceful end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from services.runtime.errors import (
    ConflictError,
    FieldProblem,
    ForbiddenError,
    GoneError,
    HongyanError,
    InvalidError,
    NotFoundError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)
from services.runtime.exposition import Working
from services.runtime.http_metrics import HttpMetrics
from services.runtime.measuring import CollectorRegistry
from services.runtime.mistakes import bad_fields
from services.runtime.probes import Health

log = structlog.get_logger()
PROBLEM_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
CLIENT_GONE = 499

_TITLES = {
    400: "请求不正确 (Bad request)",
    401: "凭证缺失或无效 (Credential missing or not valid)",
    403: "无权 (Forbidden)",
    404: "没有这一项 (Not found)",
    405: "不支持的方法 (Method not allowed)",
    409: "冲突 (Conflict)",
    410: "已不再保留 (Gone)",
    413: "超出上限 (Too large)",
    415: "不支持的内容类型 (Unsupported media type)",
    422: "内容不符合要求 (Invalid)",
    429: "请求过快，请稍后重试 (Too many events)",
    500: "内部错误 (Internal error)",
    503: "暂不可用，请稍后重试 (Unavailable, try again later)",
}
_STATUSES: Sequence[tuple[type[HongyanError], int]] = (
    (TooLargeError, 413),
    (InvalidError, 422),
    (NotFoundError, 404),
    (GoneError, 410),
    (ConflictError, 409),
    (UnauthenticatedError, 401),
    (ForbiddenError, 403),
    (UnavailableError, 503),
)


def problem(
    status: int,
    detail: str,
    fields: Sequence[FieldProblem] = (),
    *,
    retry_after_s: int = RETRY_AFTER_S,
    **more: object,
) -> JSONResponse:
    """Return a problem document (RFC 9457) that names each bad field; 429 and 503 say when to come again."""
    body: dict[str, object] = {
        "type": "about:blank",
        "title": _TITLES.get(status, HTTPStatus(status).phrase),
        "status": status,
        "detail": detail,
    }
    if fields:
        body["errors"] = [{"pointer": f.pointer, "detail": f.detail} for f in fields]
    headers = {"Retry-After": str(retry_after_s)} if status in {429, 503} else None
    return JSONResponse(body | more, status, headers=headers, media_type=PROBLEM_TYPE)


def status_of(error: Exception) -> int:
    """Return the status that says what kind of error it is."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def problem_of(error: HongyanError) -> JSONResponse:
    """Return the problem document of one of our errors."""
    status = status_of(error)
    more = {"earliest": error.earliest} if isinstance(error, GoneError) else {}
    fields = error.problems if isinstance(error, InvalidError | ConflictError) else ()
    found = problem(status, str(error), fields, **more)
    if status == 401:
        found.headers["WWW-Authenticate"] = "Bearer"
    return found


def new_app(
    title: str,
    health: Callable[[], Health],
    metrics: CollectorRegistry,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
) -> FastAPI:
    """Return an application with the pages that every process has, and our errors as problem documents."""
    app = FastAPI(title=title, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(HttpMetrics, registry=metrics)
    metrics.register(Working(lambda: health().ok))

    @app.get("/health", include_in_schema=False)
    def _health() -> JSONResponse:
        status, body = health().answer()
        return JSONResponse(body, status)

    @app.get("/metrics", include_in_schema=False)
    def _metrics() -> Response:
        return Response(generate_latest(metrics), media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(HongyanError)
    def _ours(_request: Request, error: HongyanError) -> JSONResponse:
        return problem_of(error)

    @app.exception_handler(HTTPException)
    def _http(_request: Request, error: HTTPException) -> JSONResponse:
        found = problem(error.status_code, str(error.detail))
        found.headers.update(error.headers or {})
        return found

    @app.exception_handler(ClientDisconnect)
    def _gone(_request: Request, _error: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_GONE)  # nobody reads it; it keeps an everyday thing from being an error

    @app.exception_handler(Exception)
    def _unforeseen(_request: Request, error: Exception) -> JSONResponse:
        log.error("request_failed", error=repr(error), exc_info=error)
        return problem(500, "内部错误，已记入日志 (an error of ours; it is in the log)")

    @app.exception_handler(RequestValidationError)
    def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        fields = bad_fields([{**each, "loc": each["loc"][1:]} for each in error.errors()])
        return problem(422, "; ".join(f"{f.pointer}: {f.detail}" for f in fields), fields)

    return app


class _Server(uvicorn.Server):
    """Tells at once when it is asked to end, so that requests that wait may end too."""

    def __init__(self, config: uvicorn.Config, on_exit: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_exit = on_exit

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note the signal."""
        super().handle_exit(sig, frame)
        self._on_exit()


def serve(
    app: FastAPI, host: str, port: int, stop: threading.Event, on_exit: Callable[[], None] = lambda: None
) -> None:
    """Serve until SIGTERM or SIGINT, finish what is under way, then set ``stop`` for the background threads.

    ``on_exit`` is called as soon as the signal comes, in the main thread.

    ``stop`` must come from :func:`services.runtime.lifecycle.stop_event`: the server raises the signal again when it
    has stopped, and without a handler for it the process would end before its own clean-up.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=10,
        http="h11",
        loop="asyncio",
    )
    try:
        _Server(config, on_exit).run()
    finally:
        stop.set()
