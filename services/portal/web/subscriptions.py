"""Subscriptions: what there is, an application, the decisions on it, and what may be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from fastapi import APIRouter, Response

from schemas.contracts import SENSITIVITIES, Contracts
from schemas.envelope import ATTRIBUTES
from services.identity.people import Role
from services.portal.answers import Answers
from services.portal.impaired import IN_FORCE
from services.portal.subscriptions import DecisionBody, Grants
from services.portal.web.audit import Audit
from services.portal.web.drafting import (
    DIALECTS,
    RULES,
    body_of,
    chosen_types,
    field_choices,
    form_of,
    problems_by_place,
)
from services.portal.web.forms import Posted, reason_of
from services.portal.web.grant_views import (
    DECIDED,
    Chosen,
    actions_of,
    expires_soon,
    field_rows,
    history_of,
    last_month,
)
from services.portal.web.remembering import Kept
from services.portal.web.rendering import Pages
from services.portal.web.viewer import Viewer, Viewing, allow
from services.portal.web.wording import Text
from services.runtime.clock import Clock
from services.runtime.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from services.subscriptions.lifecycle import State
from services.subscriptions.repository import AgencyRepository

RULE_ATTRIBUTES = ("division", "subject", "source", "type")
"""The attributes that the form's simple conditions offer first."""


@dataclass(frozen=True, slots=True)
class Office:
    """What the pages of subscriptions call: the same objects as the administration API does."""

    grants: Grants
    answers: Answers
    agencies: AgencyRepository
    contracts: Contracts
    audit: Audit
    clock: Clock
    kept: Kept

    def agency_names(self) -> dict[str, str]:
        """Return the agencies' names."""
        return {row["id"]: row["name"] for row in self.agencies.list()}


def routes(pages: Pages, office: Office) -> APIRouter:
    """Return the pages of subscriptions."""
    router = APIRouter()
    _list(router, pages, office)
    _form(router, pages, office)
    _one(router, pages, office)
    return router


def _list(router: APIRouter, pages: Pages, office: Office) -> None:
    @router.get("/subscriptions")
    def listed(
        viewer: Viewing,
        state: str | None = None,
        type: str | None = None,  # noqa: A002
        agency: str | None = None,
    ) -> Response:
        held = office.kept.get(
            ("all", viewer.person.id), lambda: (office.grants.visible(viewer.actor), office.agency_names())
        )
        rows, agencies = held.value
        chosen = Chosen(state or None, type or None, agency or None)
        fitting = [row for row in reversed(rows) if chosen.fits(row)]
        now = office.clock.now()
        return pages.page(
            viewer,
            "subscriptions/list.html",
            rows=fitting,
            all=len(rows),
            chosen=chosen,
            states=get_args(State),
            types=sorted({name for row in rows for name in row["types"]}),
            agencies=agencies,
            held=held,
            soon={row["id"] for row in fitting if expires_soon(row, now)},
        )


def _form(router: APIRouter, pages: Pages, office: Office) -> None:
    @router.get("/subscriptions/new")
    def new(viewer: Viewing, replaces: str | None = None, type: str | None = None) -> Response:  # noqa: A002
        form: dict[str, str] = {"fields": "policy", "level/public": "on"}
        if replaces:
            form = form_of(office.grants.get(viewer.actor, replaces)) | {"replaces": replaces, "backfill_from": ""}
        elif type:
            form[f"type/{type}"] = "on"
        return _page(pages, office, viewer, form)

    @router.post("/subscriptions/new")
    def add(viewer: Viewing, form: Posted) -> Response:
        agency = _own_agency(viewer)
        if form.get("do") == "preview":
            return _page(pages, office, viewer, form)
        try:
            body = body_of(form, agency)
            with office.audit.doing(viewer, "subscription.draft", f"agency/{agency}", body.basis, types=body.types):
                row = office.grants.apply(body, viewer.actor, None)
        except InvalidError as error:
            return _page(pages, office, viewer, form, error)
        return pages.to(f"/subscriptions/{row['id']}", Text("草稿已保存。提交以后，由数据提供方的另一人批准。"))

    @router.get("/subscriptions/{subscription}/edit")
    def edit(subscription: str, viewer: Viewing) -> Response:
        return _page(pages, office, viewer, form_of(office.grants.get(viewer.actor, subscription)), id=subscription)

    @router.post("/subscriptions/{subscription}/edit")
    def change(subscription: str, viewer: Viewing, form: Posted) -> Response:
        agency = _own_agency(viewer)
        office.grants.get(viewer.actor, subscription)
        if form.get("do") == "preview":
            return _page(pages, office, viewer, form, id=subscription)
        try:
            body = body_of(form, agency)
            with office.audit.doing(viewer, "subscription.edit", f"subscription/{subscription}", body.basis):
                office.grants.edit(subscription, body, viewer.actor)
        except InvalidError as error:
            return _page(pages, office, viewer, form, error, id=subscription)
        return pages.to(f"/subscriptions/{subscription}", Text("草稿已保存。提交以后，由数据提供方的另一人批准。"))


def _page(
    pages: Pages,
    office: Office,
    viewer: Viewer,
    form: Mapping[str, str],
    error: InvalidError | None = None,
    id: str | None = None,  # noqa: A002
) -> Response:
    agency = _own_agency(viewer)
    rows = office.grants.visible(viewer.actor)
    domains: dict[str, list[Any]] = {}
    for _, contract in sorted(office.contracts.types.items()):
        if contract.catalogue.sharing != "none":
            domains.setdefault(contract.domain, []).append(contract)
    return pages.page(
        viewer,
        "subscriptions/form.html",
        status=200 if error is None else 422,
        id=id,
        form=form,
        agency=agency,
        agencies=office.agency_names(),
        problems=problems_by_place(error.problems, form) if error is not None else {},
        domains=domains,
        chosen=chosen_types(form),
        fields=field_choices(form, office.contracts),
        levels=SENSITIVITIES,
        rules=range(RULES),
        dialects=DIALECTS,
        attributes=[*RULE_ATTRIBUTES, *sorted(ATTRIBUTES - {*RULE_ATTRIBUTES, "specversion", "dataschema"})],
        replaceable=[row for row in rows if row["agency"] == agency and row["state"] in IN_FORCE],
    )


def _one(router: APIRouter, pages: Pages, office: Office) -> None:
    def page(viewer: Viewer, subscription: str, error: str | None = None, status: int = 200) -> Response:
        def read() -> tuple[dict[str, Any], dict[int, dict[str, Any]], dict[str, str]]:
            row = office.answers.show(viewer.actor, subscription)
            return row, office.grants.repository.versions(subscription), office.agency_names()

        held = office.kept.get((subscription, viewer.person.id), read)
        row, versions, agencies = held.value
        now = office.clock.now()
        may = not viewer.administers or viewer.has(Role.SYSTEM)
        actions = actions_of(row, viewer.actor, now) if may else []
        since, until = last_month(now.date())
        return pages.page(
            viewer,
            "subscriptions/one.html",
            status=status,
            row=row,
            error=error,
            history=history_of(row["decisions"], versions),
            actions=[one for one in DECIDED if one in actions],
            editable="edit" in actions,
            owner=viewer.actor.person is not None and viewer.actor.person.owns(row["types"]),
            mine=viewer.agency == row["agency"],
            applied_by_me=viewer.actor.name in _applicants(row["decisions"]),
            fields=field_rows(office.contracts, row["types"], row["fields"]),
            agencies=agencies,
            held=held,
            soon=expires_soon(row, now),
            since=since,
            until=until,
        )

    @router.get("/subscriptions/{subscription}")
    def one(subscription: str, viewer: Viewing) -> Response:
        return page(viewer, subscription)

    @router.post("/subscriptions/{subscription}/{action}")
    def decide(subscription: str, action: str, viewer: Viewing, form: Posted) -> Response:
        if viewer.administers:
            allow(viewer, Role.SYSTEM)
        wanted = next((one for one in DECIDED if one == action), None)
        if wanted is None:
            raise NotFoundError(f"没有这个操作 (no such action): {action}")
        try:
            reason, version = reason_of(form), form.get("version", "")
            body = DecisionBody(reason=reason, version=int(version) if version.isdigit() else None)
            with office.audit.doing(viewer, f"subscription.{action}", f"subscription/{subscription}", reason):
                office.grants.act(subscription, wanted, viewer.actor, body)
        except InvalidError as error:
            return page(viewer, subscription, str(error), 422)
        except ConflictError as error:
            return page(viewer, subscription, str(error), 409)
        return pages.to(f"/subscriptions/{subscription}", _TAKEN[wanted])


_TAKEN: Mapping[str, Text] = {
    "submit": Text("已提交，等数据提供方的另一人批准。"),
    "return": Text("已退回申请人。"),
    "approve": Text("已批准，约一秒后生效。"),
    "suspend": Text("已暂停。其间的事件停放，恢复后可以放回。"),
    "resume": Text("已恢复。暂停期间停放的到“停放”里放回。"),
    "terminate": Text("已终止。"),
}


def _own_agency(viewer: Viewer) -> str:
    if viewer.agency is None:
        raise ForbiddenError("接收单位的人员才能申请 (only people of an agency apply)")
    return viewer.agency


def _applicants(decisions: Sequence[Mapping[str, Any]]) -> set[str]:
    return {one["decided_by"] for one in decisions if one["action"] in {"draft", "edit", "submit"}}
