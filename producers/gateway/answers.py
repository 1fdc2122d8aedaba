"""What a publisher is told, event by event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from fastapi.responses import JSONResponse, Response

from producers.gateway.acceptance import Accepted, Refused
from producers.gateway.parsing import Parsed
from services.runtime.errors import FieldProblem
from services.runtime.web import problem

Outcome = Accepted | Refused


def answer(events: Sequence[Parsed], outcomes: Sequence[Outcome]) -> Response:
    """Return 202 when all were taken, 207 when some were, else the problem that the first refused one has.

    Every answer lists each event by its index in the request, with its id and its own status; a 207 names what to
    send again (503) and what to mend first (403, 409, 422).
    """
    listed = [_one(n, event, outcome) for n, (event, outcome) in enumerate(zip(events, outcomes, strict=True))]
    taken = sum(isinstance(outcome, Accepted) for outcome in outcomes)
    if taken == 0:
        return refusal([outcome for outcome in outcomes if isinstance(outcome, Refused)], listed)
    status = 202 if taken == len(outcomes) else 207
    headers = {"Retry-After": "2"} if any(one["status"] == 503 for one in listed) else None
    body = {"accepted": taken, "refused": len(outcomes) - taken, "events": listed}
    return Response(orjson.dumps(body), status, headers, "application/json")


def not_taken(events: Sequence[Parsed], outcomes: Sequence[Outcome]) -> Response:
    """Return 503 that lists which events stand on the log and which are to be sent again; 413 where no event is to be
    sent again as it is, since Kafka refused them for their size.
    """
    listed = [_one(n, event, outcome) for n, (event, outcome) in enumerate(zip(events, outcomes, strict=True))]
    taken = sum(isinstance(outcome, Accepted) for outcome in outcomes)
    if all(one["status"] != 503 for one in listed):
        pairs = [(e.pointer, o) for e, o in zip(events, outcomes, strict=True) if isinstance(o, Refused)]
        fields = [FieldProblem(pointer + p.pointer, p.detail) for pointer, o in pairs for p in o.problems]
        return problem(
            413, "; ".join(f"{p.pointer}: {p.detail}" for p in fields), fields, events=listed, accepted=taken
        )
    detail = f"Kafka 确认了 {taken} 个，其余请以同一 id 重发 ({taken} acknowledged; send the others again, same ids)"
    return problem(503, detail, events=listed, accepted=taken)


def refusal(refused: Sequence[Refused], listed: Sequence[dict[str, Any]] = ()) -> JSONResponse:
    """Return the problem document of a request of which nothing was taken."""
    # What the sender may do at all comes before what is wrong with it, and that before what will pass by itself.
    status = min((r.status for r in refused), key=(403, 413, 422, 409, 503).index)
    fields = [p for r in refused if r.status == status for p in r.problems]
    detail = "; ".join(f"{p.pointer}: {p.detail}".removeprefix(": ") for p in fields[:20])
    more: dict[str, Any] = {"events": listed, "accepted": 0} if listed else {}
    return problem(status, detail, fields, **more)


def _one(index: int, event: Parsed, outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Refused):
        errors = [{"pointer": p.pointer, "detail": p.detail} for p in outcome.problems]
        return {"index": index, "id": event.attributes.get("id"), "status": outcome.status, "errors": errors}
    attributes, placed = outcome.prepared.attributes, outcome.placed
    told: dict[str, Any] = {
        "index": index,
        "id": attributes["id"],
        "status": 202,
        "source": attributes["source"],
        "subject": attributes["subject"],
        "recordedtime": outcome.recordedtime,
        "topic": placed.topic,
        "partition": placed.partition,
        "offset": placed.offset,
        "quality": list(outcome.prepared.quality),
    }
    return told | {"repeated": True} if outcome.repeated else told
