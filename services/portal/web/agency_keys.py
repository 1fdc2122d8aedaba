"""An agency's keys, changed from its page: a new one is shown this once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Response

from services.identity.people import Role
from services.portal.access import AccessAdministration
from services.portal.access import KeyBody as FeedKeyBody
from services.portal.agencies import AgencyDesk, KeyBody
from services.portal.web.agency_deeds import row_of
from services.portal.web.audit import Audit
from services.portal.web.forms import Posted, reason_of
from services.portal.web.rendering import Pages
from services.portal.web.sides import Parties
from services.portal.web.viewer import Viewer, Viewing, allow
from services.portal.web.wording import Text
from services.runtime.errors import FieldProblem, InvalidError

OVERLAP_H = 168.0


def routes(pages: Pages, audit: Audit, parties: Parties, desk: AgencyDesk, access: AccessAdministration) -> APIRouter:
    """Return the routes; each change is recorded before it is made."""
    router = APIRouter()

    @router.post("/agencies/{agency}/rotate-key")
    def rotate(viewer: Viewing, agency: str, form: Posted) -> Response:
        allow(viewer, Role.SECURITY)
        reason = reason_of(form)
        body = KeyBody(reason=reason, overlap_hours=_hours(form))
        with audit.doing(viewer, "agency.rotate-key", f"agency/{agency}", reason, overlap_hours=body.overlap_hours):
            changed = desk.rotate(agency, body, viewer.person.id)
        parties.changed()
        return _shown_once(viewer, agency, Text("签名密钥"), changed["secret"], body.overlap_hours)

    @router.post("/agencies/{agency}/feed-key")
    def feed_key(viewer: Viewing, agency: str, form: Posted) -> Response:
        allow(viewer, Role.SECURITY)
        reason = reason_of(form)
        body = FeedKeyBody(reason=reason, overlap_hours=_hours(form))
        with audit.doing(viewer, "agency.feed-key", f"agency/{agency}", reason, overlap_hours=body.overlap_hours):
            added = access.add_key(agency, body, viewer.person.id)
        return _shown_once(viewer, agency, Text("取件密钥"), added["key"], body.overlap_hours)

    def _shown_once(viewer: Viewer, agency: str, what: Text, secret: str, overlap_h: float) -> Response:
        row = row_of(parties, agency)
        values: dict[str, Any] = {"agency": agency, "row": row, "what": what, "secret": secret, "hours": overlap_h}
        return pages.page(viewer, "agencies/key.html", **values)

    @router.post("/agencies/{agency}/revoke-key")
    def revoke(viewer: Viewing, agency: str, form: Posted) -> Response:
        allow(viewer, Role.SECURITY)
        reason, key = reason_of(form), form.get("key", "")
        with audit.doing(viewer, "agency.revoke-key", f"agency/{agency}", reason, key=key):
            desk.revoke(agency, key, reason, viewer.person.id)
        parties.changed()
        return pages.to(f"/agencies/{agency}", Text("密钥 {key} 已废止。"), key=key)

    return router


def _hours(form: Mapping[str, str]) -> float:
    try:
        hours = float(form.get("overlap_hours") or OVERLAP_H)
    except ValueError:
        hours = -1.0
    if not 0 <= hours <= 24 * 366:
        raise InvalidError([FieldProblem("/overlap_hours", "应为 0 到 8784 之间的小时数 (hours, 0 to 8784)")])
    return hours
