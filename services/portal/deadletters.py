"""Dead letters over the administration API: search, show, correct and resubmit."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, StringConstraints

from services.quarantine.desk import Correction, Desk
from services.quarantine.letters import Search

Text = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]


class CorrectionBody(BaseModel):
    """What to change (JSON merge patches), by whom and why."""

    model_config = ConfigDict(extra="forbid")

    reason: Text
    by: Text = "administrator"
    attributes: dict[str, str | None] = {}
    data: dict[str, Any] = {}


def deadletter_routes(router: APIRouter, desk: Desk) -> None:
    """Put the routes on a router."""

    @router.get("/deadletters")
    def search(
        stage: str | None = None,
        type: str | None = None,  # noqa: A002  (the attribute's name)
        source: str | None = None,
        text: str | None = None,
        state: Literal["open", "corrected"] | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> list[dict[str, Any]]:
        return desk.letters.search(Search(stage, type, source, text, state, limit))

    @router.get("/deadletters/{stage}/{offset}")
    def show(stage: str, offset: int) -> dict[str, Any]:
        return desk.show(stage, offset)

    @router.post("/deadletters/{stage}/{offset}/resubmit")
    def resubmit(stage: str, offset: int, body: CorrectionBody) -> dict[str, Any]:
        return desk.resubmit(stage, offset, Correction(body.by, body.reason, body.attributes, body.data))
