"""``GET /v1/catalogue``: what each event type is, for anyone; it holds no data."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from producers.gateway.description import catalogue_description
from schemas.contracts import Contracts
from services.catalogue.entry import entry_of, summary_of
from services.runtime.errors import NotFoundError


def catalogue_routes(contracts: Contracts) -> APIRouter:
    """Return the catalogue's routes."""
    routes = APIRouter(prefix="/v1/catalogue", tags=["catalogue"])

    @routes.get("")
    def types() -> dict[str, Any]:
        return {"types": [summary_of(contract) for _, contract in sorted(contracts.types.items())]}

    @routes.get("/{event_type}", openapi_extra=catalogue_description())
    def one_type(event_type: str) -> dict[str, Any]:
        contract = contracts.types.get(event_type)
        if contract is None:
            raise NotFoundError(f"没有这个事件类型 (unknown event type): {event_type}")
        return entry_of(contract) | {"schema": contract.schema}

    return routes
