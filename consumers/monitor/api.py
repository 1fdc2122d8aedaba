"""The monitor's pages: the newest snapshot, and where it takes in its own probe."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from consumers.monitor.probing import Prober
from consumers.monitor.watching import Watching
from services.delivery.lag import SNAPSHOT_PATH
from services.delivery.receiver import PROBE_PATH
from services.runtime.clock import Clock
from services.runtime.errors import FieldProblem, ForbiddenError, TooLargeError, UnavailableError

MAX_BYTES = 64 * 1024


class NotMeasuredError(UnavailableError):
    """还没有测得，稍后再试 (nothing was measured yet; try again)"""


class ForeignProbeError(UnavailableError):
    """签名不是本次启动的密钥所作，稍后再送 (signed with no key of this start; send it again later)"""


def add_snapshot(app: FastAPI, watching: Watching) -> None:
    """Serve the newest snapshot."""

    @app.get(SNAPSHOT_PATH)
    def snapshot() -> JSONResponse:
        found = watching.latest()
        if found is None:
            raise NotMeasuredError(watching.away_why() or NotMeasuredError.__doc__ or "")
        return JSONResponse(found.to_json())


def add_probe(app: FastAPI, prober: Prober, clock: Clock) -> None:
    """Take the probe's deliveries in; what is not genuine is asked for again, so that the line is never parked."""

    @app.post(PROBE_PATH, status_code=204, response_model=None)
    async def receive(request: Request) -> Response:
        at_s = clock.now().timestamp()
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_BYTES:
                raise TooLargeError([FieldProblem("", f"至多 {MAX_BYTES} 字节 (at most so many bytes)")])
        try:
            prober.take(dict(request.headers), body, at_s)
        except (ForbiddenError, ValueError) as error:
            raise ForeignProbeError(str(error)) from error
        return Response(status_code=204)
