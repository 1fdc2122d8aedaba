"""The catalogue: each type with its law, its fields and its sample, and how its schema has changed."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Response

from schemas.contracts import Contracts
from services.catalogue.entry import entry_of, summary_of
from services.portal.schema_history import SchemaHistory, SchemaVersion
from services.portal.web.rendering import Pages
from services.portal.web.viewer import Viewing
from services.runtime.errors import NotFoundError, RegistryUnavailableError


def routes(pages: Pages, contracts: Contracts, history: SchemaHistory) -> APIRouter:
    """Return the pages."""
    router = APIRouter()

    @router.get("/catalogue")
    def listed(viewer: Viewing, text: str = "", sharing: str = "") -> Response:
        wanted = text.strip().lower()
        found: dict[str, list[dict[str, Any]]] = {}
        for _, contract in sorted(contracts.types.items()):
            one = summary_of(contract)
            words = " ".join(str(one[name]) for name in ("type", "title_zh", "title_en", "owner")).lower()
            if wanted in words and sharing in {"", one["sharing"]}:
                found.setdefault(contract.domain, []).append(one)
        count = sum(len(rows) for rows in found.values())
        return pages.page(
            viewer,
            "catalogue/list.html",
            found=found,
            count=count,
            all=len(contracts.types),
            text=text,
            sharing=sharing,
        )

    @router.get("/catalogue/{type}")
    def one(type: str, viewer: Viewing) -> Response:  # noqa: A002  (the attribute's name)
        contract = contracts.types.get(type)
        if contract is None:
            raise NotFoundError(f"没有这个事件类型 (unknown event type): {type}")
        versions: list[SchemaVersion] = []
        unanswered = None
        try:
            versions = history.of(contract)
        except RegistryUnavailableError as error:
            unanswered = str(error)
        entry = entry_of(contract)
        sample = json.dumps(entry["sample"], ensure_ascii=False, indent=2)
        return pages.page(
            viewer, "catalogue/one.html", entry=entry, versions=versions, unanswered=unanswered, sample=sample
        )

    @router.get("/catalogue/{type}/versions/{number}")
    def version(type: str, number: int, viewer: Viewing) -> Response:  # noqa: A002
        contract = contracts.types.get(type)
        found = next((v for v in history.of(contract) if v.number == number), None) if contract is not None else None
        if contract is None or found is None:
            raise NotFoundError(f"{type} 没有第 {number} 版 (no such version)")
        text = json.dumps(found.schema, ensure_ascii=False, indent=2)
        return pages.page(viewer, "catalogue/version.html", entry=entry_of(contract), version=found, schema=text)

    return router
