"""Closed figures over the administration API: the months, and each as CSV, JSON or SDMX-CSV with its metadata."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Response

from services.portal.actors import administering
from services.runtime.database import Connections
from services.runtime.settings import Settings
from services.statistics.export import MEDIA_TYPES, ExportFormat, export
from services.statistics.figure import Month
from services.statistics.opening import open_figures


def statistics_routes(settings: Settings, connections: Connections) -> APIRouter:
    """Return the routes; each answers for the moment of its call."""
    router = APIRouter(prefix="/v1/statistics", dependencies=[Depends(administering)])

    @router.get("/months")
    def months() -> list[dict[str, Any]]:
        with open_figures(settings, connections) as reader:
            decided = [one for decisions in reader.frozen.decisions.values() for one in decisions]
        return [
            {
                "month": str(Month.of_number(one.month)),
                "state": one.state,
                "revision": one.revision,
                "decided_by": one.decided_by,
                "reason": one.reason,
                "override": one.override,
                "decided_at": one.decided_at.isoformat(),
                "digest": one.digest,
            }
            for one in decided
        ]

    @router.get("/months/{month}.{form}")
    def download(month: str, form: ExportFormat) -> Response:
        with open_figures(settings, connections) as reader:
            text = export(reader, month, form)
        ending = "csv" if form is ExportFormat.sdmx else form
        name = f'attachment; filename="statistics-{month}-{form}.{ending}"'
        return Response(text, media_type=MEDIA_TYPES[form], headers={"Content-Disposition": name})

    @router.get("/figures/{metric_id}/{month}")
    def figure(metric_id: str, month: str) -> dict[str, Any]:
        with open_figures(settings, connections) as reader:
            return reader.figure(metric_id, month).to_json()

    return router
