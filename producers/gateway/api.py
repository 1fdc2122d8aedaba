"""``POST /v1/events``: CloudEvents in, an answer only after Kafka's acknowledgement."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response
from starlette.middleware.gzip import GZipMiddleware

from producers.gateway.acceptance import Acceptance, Accepted, Refused
from producers.gateway.answers import answer, not_taken, refusal
from producers.gateway.body import read_body
from producers.gateway.credentials import Credentials
from producers.gateway.decoding import Decoding
from producers.gateway.description import dead_letters_description, publish_description
from producers.gateway.limits import RateLimits, Room, TooManyEventsError
from producers.gateway.metrics import GatewayMetrics
from producers.gateway.parsing import Parsed, UnsupportedMediaTypeError, parse
from producers.gateway.preview import Preview
from producers.publishing import Prepared, Publishing
from schemas.contracts import Contracts
from schemas.tracing import context_of
from services.quarantine.letters import DeadLetters, Search
from services.runtime.api_page import add_api_page
from services.runtime.errors import FieldProblem, InvalidError, RegistryUnavailableError
from services.runtime.measuring import CollectorRegistry
from services.runtime.metrics import GATEWAY_UNDER_WAY
from services.runtime.probes import Health
from services.runtime.settings import GatewaySettings
from services.runtime.web import new_app, problem
from services.subscriptions.control import Department

MAX_LETTERS = 200
COMPRESS_FROM_BYTES = 2048
READING, READING_WAIT = 2, 20
"""How many requests for dead letters are worked on at once, and how many wait for their turn."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of the gateway."""

    acceptance: Acceptance
    credentials: Credentials
    limits: RateLimits
    preview: Preview
    publishing: Publishing
    decoding: Decoding
    letters: DeadLetters
    contracts: Contracts
    settings: GatewaySettings

    async def department(self, request: Request) -> Department:
        """Return who asks. A token may have to wait for its issuer's keys; that must not hold up the others."""
        authorization = request.headers.get("authorization", "")
        if self.credentials.is_key(authorization):
            return self.credentials.department(authorization)
        return await asyncio.to_thread(self.credentials.department, authorization)

    async def read(self, request: Request, department: Department) -> list[Parsed]:
        """Return the events of a request, counted against the department's limit: one before the body is read, and
        the others afterwards, into debt if need be.

        Until the schemas are registered nothing is read: encoding would wait for the registry, and everybody with it.
        """
        if self.publishing.unregistered:
            raise RegistryUnavailableError(self.publishing.unregistered)
        self.limits.take(department, 1)
        encoding = request.headers.get("content-encoding", "")
        body = await read_body(request.stream(), encoding, self.settings.max_body_bytes)
        kind, most = request.headers.get("content-type", ""), self.settings.max_batch
        events = await self.decoding.within(lambda decode: parse(kind, request.headers, body, decode, most))
        self.limits.owe(department, len(events) - 1)
        return events


def create_app(gateway: Gateway, health: Callable[[], Health], metrics: CollectorRegistry) -> FastAPI:
    """Return the gateway's application."""
    app = new_app("Hongyan gateway", health, metrics)
    app.add_middleware(GZipMiddleware, minimum_size=COMPRESS_FROM_BYTES, compresslevel=1)
    counted = GatewayMetrics(metrics)
    limits = gateway.settings
    room = Room(limits.max_in_flight, limits.max_waiting, limits.acknowledge_timeout_s)
    # Reading back takes seconds and threads of its own: those who publish must not wait behind it.
    reading = Room(READING, READING_WAIT, limits.acknowledge_timeout_s)
    readers = ThreadPoolExecutor(READING, "deadletters")
    GATEWAY_UNDER_WAY.asked(metrics, lambda: room.admitted)
    _problem_handlers(app)
    _describe_credential(app)
    add_api_page(app)

    @app.post(
        "/v1/events",
        status_code=202,
        response_model=None,
        openapi_extra=publish_description(gateway.contracts),
        summary="发布事件 (publish events)",
    )
    async def publish(request: Request, dry_run: bool = False) -> Response:
        """发布一个或一批事件；应答 202 即已在 Kafka 上 (publish; 202 means that it is on the log)."""
        with counted.seconds.time():
            _check_parameters(request)
            department = await gateway.department(request)
            async with room.turn():
                events = await gateway.read(request, department)
                checked = gateway.acceptance.check(department, events, context_of(request.headers))
                if dry_run:
                    return Response(
                        orjson.dumps(gateway.preview.answer(events, checked)), 200, None, "application/json"
                    )
                lenient = "handling=lenient" in request.headers.get("prefer", "").lower()
                refused = [one for one in checked if isinstance(one, Refused)]
                if refused and not lenient:
                    counted.ended(refused)
                    return refusal(refused)
                outcomes = await _publish(gateway.acceptance, checked)
        counted.ended(outcomes)
        if not lenient and any(isinstance(one, Refused) for one in outcomes):
            return not_taken(events, outcomes)
        return answer(events, outcomes)

    @app.get("/v1/deadletters", summary="本部门的死信 (your dead letters)", openapi_extra=dead_letters_description())
    async def dead_letters(
        request: Request, limit: Annotated[int, Query(ge=1, le=MAX_LETTERS)] = MAX_LETTERS
    ) -> list[dict[str, Any]]:
        """列出本部门无法处理的事件及其更正，最新的在后 (what could not be worked on of yours, newest last)."""
        department = await gateway.department(request)
        gateway.limits.take(department, 1)
        async with reading.turn():
            search = Search(source=department.source, limit=limit)
            return await asyncio.get_running_loop().run_in_executor(readers, gateway.letters.search, search)

    return app


async def _publish(acceptance: Acceptance, checked: list[Prepared | Refused]) -> list[Accepted | Refused]:
    """Publish what was not refused, and put the outcomes in the order of the request."""
    published = iter(await acceptance.publish([one for one in checked if isinstance(one, Prepared)]))
    return [one if isinstance(one, Refused) else next(published) for one in checked]


def _describe_credential(app: FastAPI) -> None:
    described = app.openapi

    def openapi() -> dict[str, object]:
        document = described()
        schemes = {
            "bearer": {"type": "http", "scheme": "bearer", "description": "部门密钥 hyk_…，或 OAuth2 令牌 (JWT)"}
        }
        document.setdefault("components", {})["securitySchemes"] = schemes
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _problem_handlers(app: FastAPI) -> None:
    @app.exception_handler(TooManyEventsError)
    def _too_many(_request: Request, error: TooManyEventsError) -> JSONResponse:
        return problem(429, str(error), retry_after_s=error.retry_after_s)

    @app.exception_handler(UnsupportedMediaTypeError)
    def _unsupported(_request: Request, error: UnsupportedMediaTypeError) -> JSONResponse:
        found = problem(415, str(error))
        found.headers["Accept-Encoding"] = "gzip"
        return found


def _check_parameters(request: Request) -> None:
    """Refuse what is no parameter: a mistyped ``dry_run`` would publish for real."""
    unknown = sorted(request.query_params.keys() - {"dry_run"})
    if unknown:
        raise InvalidError([FieldProblem(f"/{name}", "没有这个查询参数 (no such parameter)") for name in unknown])
