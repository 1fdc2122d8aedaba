"""The month: its figures and where they come from, what was decided, closing it, what changed since, and its report."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import get_args
from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from services.identity.people import Role
from services.portal.months import Choice, Months
from services.portal.progress import Progress
from services.portal.web.audit import Audit
from services.portal.web.forms import Posted, reason_of
from services.portal.web.long import Long
from services.portal.web.remembering import Kept
from services.portal.web.rendering import Pages
from services.portal.web.viewer import Viewer, Viewing, allow
from services.portal.web.wording import Text
from services.reporting.html import POLICY
from services.reporting.issuing import MEDIA_TYPES, Format
from services.runtime.errors import ConflictError, FieldProblem, InvalidError
from services.statistics.closing import ClosingRefusedError, Signature
from services.statistics.export import MEDIA_TYPES as EXPORT_TYPES
from services.statistics.export import ExportFormat
from services.statistics.figure import Month

UNITS = (
    Text("个"),
    Text("件"),
    Text("次"),
    Text("元"),
    Text("场"),
    Text("家"),
    Text("项"),
    Text("秒"),
    Text("人/次"),
    Text("工作日"),
    Text("比率"),
)
"""What figures are counted in; their English stands beside the others."""
SEEN_BY = (Role.STATISTICIAN, Role.SYSTEM, Role.AUDIT)
CHANGES_SHOWN = 20
PATIENT_S = 20.0
"""How long a report is waited for on the spot: a browser that saves a file shows no other page meanwhile."""
DIMENSION = "dimension."
FRAMED = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'self'; sandbox",
    "X-Frame-Options": "SAMEORIGIN",
}
"""The page of the bulletin brings its own style, runs nothing, and is shown inside of one of ours."""


def routes(pages: Pages, months: Months, audit: Audit, long: Long, kept: Kept) -> APIRouter:
    """Return the pages."""
    router = APIRouter()
    _figures(router, pages, months, long, kept)
    _decisions(router, pages, months, audit, long)
    _reports(router, pages, months, long)
    return router


def _figures(router: APIRouter, pages: Pages, months: Months, long: Long, kept: Kept) -> None:
    @router.get("/month")
    def listed(viewer: Viewing) -> Response:
        allow(viewer, *SEEN_BY)
        held = kept.get("all", months.all)
        return pages.page(viewer, "month/list.html", rows=held.value, held=held)

    @router.get("/month/{month}")
    def one(month: str, viewer: Viewing) -> Response:
        allow(viewer, *SEEN_BY)
        held = kept.get(month, lambda: months.month(month))
        return pages.page(
            viewer,
            "month/one.html",
            view=held.value,
            held=held,
            formats=[one for one in Format if one is not Format.html],
            exports=list(ExportFormat),
            may_close=viewer.has(Role.STATISTICIAN),
        )

    @router.get("/month/{month}/figures/{metric}")
    def figure(month: str, metric: str, request: Request, viewer: Viewing, by: str = "") -> Response:
        allow(viewer, *SEEN_BY)
        where = {
            name.removeprefix(DIMENSION): value
            for name, value in request.query_params.items()
            if name.startswith(DIMENSION)
        }
        key = (month, metric, by, *sorted(where.items()))
        held = kept.get(key, lambda: months.figure(metric, month, where, by or None))
        return pages.page(
            viewer,
            "month/figure.html",
            month=Month.parse(month),
            view=held.value,
            held=held,
            where=where,
            dimension=DIMENSION,
        )

    @router.get("/month/{month}/adjustments")
    def changed(month: str, viewer: Viewing) -> Response:
        allow(viewer, *SEEN_BY)
        Month.parse(month)
        then = f"/month/{month}/adjustments/{{job}}"
        return long.begin(viewer, "adjustments", month, then, lambda _: months.adjustments(month))

    @router.get("/month/{month}/adjustments/{identity}")
    def adjusted(month: str, identity: str, viewer: Viewing) -> Response:
        found = long.job(viewer, identity).outcome()
        return pages.page(viewer, "month/adjustments.html", month=month, found=found, most=CHANGES_SHOWN)


def _decisions(router: APIRouter, pages: Pages, months: Months, audit: Audit, long: Long) -> None:
    def deciding(
        viewer: Viewer,
        month: str,
        form: Mapping[str, str] | None = None,
        refusals: list[str] | None = None,
        error: str | None = None,
        status: int = 200,
    ) -> Response:
        view = months.month(month)
        closed = view.state in {"closed", "restated"}
        if refusals is None and not closed:
            refusals = months.refusals(month)
        return pages.page(
            viewer,
            "month/decide.html",
            status=status,
            view=view,
            closed=closed,
            refusals=refusals or [],
            refused=error is None and status == 409,
            form=form or {},
            error=error,
        )

    @router.get("/month/{month}/decide")
    def ask(month: str, viewer: Viewing) -> Response:
        allow(viewer, Role.STATISTICIAN)
        return deciding(viewer, month)

    @router.post("/month/{month}/decide")
    def decide(month: str, viewer: Viewing, form: Posted) -> Response:
        allow(viewer, Role.STATISTICIAN)
        choice = _choice(form.get("choice", ""))
        try:
            signature = Signature(signed_by(viewer), reason_of(form), form.get("override", "").strip() or None)
        except InvalidError as error:
            return deciding(viewer, month, form, error=str(error), status=422)

        def run(_: Progress) -> object:
            override = {"override": signature.override} if signature.override else {}
            with audit.doing(viewer, f"month.{choice}", f"month/{month}", signature.reason, **override):
                return months.decide(choice, month, signature)

        return long.begin(viewer, "decide", month, f"/month/{month}/decided/{{job}}", run)

    @router.get("/month/{month}/decided/{identity}")
    def decided(month: str, identity: str, viewer: Viewing) -> Response:
        allow(viewer, Role.STATISTICIAN)
        try:
            found = long.job(viewer, identity).outcome()
        except ClosingRefusedError as error:
            return deciding(viewer, month, refusals=list(error.refusals), status=409)
        except (ConflictError, InvalidError) as error:
            return deciding(viewer, month, error=str(error), status=409)
        return pages.page(viewer, "month/decided.html", found=found, month=month)


def _reports(router: APIRouter, pages: Pages, months: Months, long: Long) -> None:
    @router.get("/month/{month}/report")
    def preview(month: str, viewer: Viewing) -> Response:
        allow(viewer, *SEEN_BY)
        return pages.page(viewer, "month/report.html", month=Month.parse(month), formats=list(Format))

    @router.get("/month/{month}/report.{form}")
    def begin(month: str, form: Format, viewer: Viewing) -> Response:
        allow(viewer, *SEEN_BY)
        language = viewer.language
        then = f"/month/{month}/report/{form}/{{job}}"
        return long.begin(
            viewer, "report", f"{month} {form}", then, lambda _: months.issue(month, form, language), PATIENT_S
        )

    @router.get("/month/{month}/report/{form}/{identity}")
    def content(month: str, form: Format, identity: str, viewer: Viewing) -> Response:
        job = long.job(viewer, identity)
        if form is Format.html and job.error is not None:
            return Response(f"<!doctype html><p>{escape(str(job.error))}</p>", 422, FRAMED, "text/html; charset=utf-8")
        issue = job.outcome()
        framed = issue.form is Format.html
        headers = {"Content-Disposition": _named(issue.name, "inline" if framed else "attachment")}
        headers |= FRAMED if framed else {}
        return Response(issue.content, media_type=MEDIA_TYPES[issue.form], headers=headers)

    @router.get("/month/{month}/figures.{form}")
    def download(month: str, form: ExportFormat, viewer: Viewing) -> Response:
        allow(viewer, *SEEN_BY)
        ending = "csv" if form is ExportFormat.sdmx else form
        headers = {"Content-Disposition": _named(f"statistics-{month}-{form}.{ending}", "attachment")}
        return Response(months.download(month, form), media_type=EXPORT_TYPES[form], headers=headers)


def signed_by(viewer: Viewer) -> str:
    """Return the name that a decision is signed with: the person's own, with the id that it is on record by."""
    return f"{viewer.person.name}（{viewer.person.id}）"


def _choice(text: str) -> Choice:
    found: Choice | None = next((one for one in get_args(Choice) if one == text), None)
    if found is None:
        raise InvalidError([FieldProblem("/choice", "应为 close、provisional 或 restate (one of these)")])
    return found


def _named(name: str, how: str) -> str:
    return f"{how}; filename*=UTF-8''{quote(name)}"
