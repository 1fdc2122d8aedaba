"""总览 (the first page): where things stand, at a glance."""

from __future__ import annotations

from fastapi import APIRouter, Response

from services.portal.web.rendering import Pages
from services.portal.web.viewer import Viewing


def routes(pages: Pages) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get("/")
    def show(viewer: Viewing) -> Response:
        return pages.page(viewer, "overview/show.html")

    return router
