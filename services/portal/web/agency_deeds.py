"""What is done about an agency from its page: paused, resumed, verified, tried, events sent again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Response

from schemas.times import parse_time
from services.identity.people import Role
from services.portal.agencies import AgencyDesk
from services.portal.web.agencies import check_side
from services.portal.web.audit import Audit
from services.portal.web.forms import Posted, reason_of
from services.portal.web.plain_words import in_language
from services.portal.web.rendering import Pages
from services.portal.web.sides import Parties
from services.portal.web.viewer import Viewer, Viewing, allow
from services.portal.web.wording import Text
from services.quarantine.replaying import MOST, FeedReplay
from services.runtime.errors import FieldProblem, InvalidError, NotFoundError


def routes(pages: Pages, audit: Audit, parties: Parties, desk: AgencyDesk, replay: FeedReplay) -> APIRouter:
    """Return the routes that change something; each is recorded before it is done."""
    router = APIRouter()

    @router.post("/agencies/{agency}/pause")
    def pause(viewer: Viewing, agency: str, form: Posted) -> Response:
        return _decide(viewer, agency, form, "suspended")

    @router.post("/agencies/{agency}/resume")
    def resume(viewer: Viewing, agency: str, form: Posted) -> Response:
        return _decide(viewer, agency, form, "active")

    def _decide(viewer: Viewer, agency: str, form: Mapping[str, str], state: Any) -> Response:  # noqa: ANN401
        allow(viewer, Role.SYSTEM)
        reason = reason_of(form)
        action = "agency.pause" if state == "suspended" else "agency.resume"
        with audit.doing(viewer, action, f"agency/{agency}", reason):
            desk.decide(agency, state, reason, viewer.person.id)
        parties.changed()
        note = Text("推送已暂停，事件留在队列。") if state == "suspended" else Text("推送已恢复，队列从游标续推。")
        return pages.to(f"/agencies/{agency}", note)

    @router.post("/agencies/{agency}/verify")
    def verify(viewer: Viewing, agency: str, form: Posted) -> Response:
        allow(viewer, Role.SYSTEM)
        with audit.doing(viewer, "agency.verify", f"agency/{agency}"):
            done = desk.verify(agency, viewer.person.id)
        parties.changed()
        pushed = done["channel"] == "webhook" and done["state"] != "suspended"
        note = Text("接收端答对了签名质询，开始推送。") if pushed else Text("接收端答对了签名质询。")
        return pages.to(f"/agencies/{agency}", note)

    @router.post("/agencies/{agency}/test")
    def test(viewer: Viewing, agency: str, form: Posted) -> Response:
        if not viewer.has(Role.SYSTEM) and viewer.agency != agency:
            allow(viewer, Role.SYSTEM)
        check_side(parties.side_of(viewer), agency)
        with audit.doing(viewer, "agency.test", f"agency/{agency}"):
            result = desk.test(agency)
        return pages.page(
            viewer, "agencies/tested.html", agency=agency, row=row_of(parties, agency), result=result, said=in_language
        )

    @router.post("/agencies/{agency}/replay")
    def again(viewer: Viewing, agency: str, form: Posted) -> Response:
        allow(viewer, Role.SYSTEM)
        since_text = form.get("since", "")
        try:
            since, _ = parse_time(since_text)
        except ValueError as error:
            raise InvalidError([FieldProblem("/since", str(error))]) from error
        row = row_of(parties, agency)
        if form.get("step") != "go":
            counted = replay.look(agency, since)
            return pages.page(
                viewer, "agencies/replay.html", agency=agency, row=row, since=since, counted=counted, most=MOST
            )
        reason = reason_of(form)
        with audit.doing(viewer, "agency.replay", f"agency/{agency}", reason, since=since.isoformat()):
            done = replay.replay(agency, since)
        return pages.to(
            f"/agencies/{agency}",
            Text("已放回 {n} 件到队尾；另有 {gone} 件此后已被更正或终止，没有放回。"),
            n=done.number,
            gone=done.superseded,
        )

    return router


def row_of(parties: Parties, agency: str) -> Mapping[str, Any]:
    """Return an agency's row; raises NotFoundError."""
    found = parties.agency(agency)
    if found is None:
        raise NotFoundError(f"没有接收单位 {agency} (no such agency)")
    return found
