"""A dry run over a past period: it reads the log, and may take a while."""

from __future__ import annotations

from datetime import date, datetime

from fastapi import APIRouter, Response

from schemas.times import SHANGHAI
from services.portal.answers import DryRunBody
from services.portal.seen import personal_fields, seen_fields
from services.portal.web.forms import Posted
from services.portal.web.grant_views import bars
from services.portal.web.long import Long
from services.portal.web.rendering import Pages
from services.portal.web.subscriptions import Office
from services.portal.web.viewer import Viewing
from services.runtime.errors import FieldProblem, InvalidError

SAMPLES = 5
LONGEST_DAYS = 366


def routes(pages: Pages, office: Office, long: Long) -> APIRouter:
    """Return the pages of dry runs."""
    router = APIRouter()
    _dry_run(router, pages, office, long)
    return router


def _dry_run(router: APIRouter, pages: Pages, office: Office, long: Long) -> None:
    @router.post("/subscriptions/{subscription}/dry-run")
    def begin(subscription: str, viewer: Viewing, form: Posted) -> Response:
        row = office.grants.get(viewer.actor, subscription)
        since, until = form.get("from", ""), form.get("to", "")
        _check_period(since, until)
        owner = viewer.actor.person is not None and viewer.actor.person.owns(row["types"])
        body = DryRunBody(**{"from": since, "to": until, "samples": SAMPLES if owner else 0})
        actor = viewer.actor
        return long.begin(
            viewer,
            "dry-run",
            f"{subscription} {since} – {until}",
            f"/subscriptions/{subscription}/dry-run/{{job}}",
            lambda progress: office.answers.dry_run(actor, subscription, body, progress),
        )

    @router.get("/subscriptions/{subscription}/dry-run/{identity}")
    def result(subscription: str, identity: str, viewer: Viewing) -> Response:
        found = long.job(viewer, identity).outcome()
        personal: set[str] = set()
        samples = []
        for sample in found["samples"]:
            contract = office.contracts.types.get(sample["attributes"]["type"])
            samples.append((sample["attributes"], seen_fields(sample["data"], contract, whole=True)))
            personal.update(personal_fields(sample["data"], contract))
        if personal:
            office.audit.viewed(viewer, f"subscription/{subscription}/dry-run", sorted(personal))
        days = bars(found["days"], _day(found["from"]), _day(found["to"]))
        return pages.page(
            viewer,
            "subscriptions/trial.html",
            row=office.grants.get(viewer.actor, subscription),
            found=found,
            days=days,
            most=max((count for _, count in days), default=0),
            samples=samples,
        )


def _check_period(since: str, until: str) -> None:
    """Raise InvalidError for a period that is none, or longer than a dry run reads."""
    try:
        days = (date.fromisoformat(until) - date.fromisoformat(since)).days
    except ValueError:
        raise InvalidError([FieldProblem("/from", "应为日期，例 2025-12-01 (a date)")]) from None
    if not 0 < days <= LONGEST_DAYS:
        raise InvalidError([FieldProblem("/to", f"应晚于开始，至多 {LONGEST_DAYS} 天 (later, not longer)")])


def _day(text: str) -> date:
    return datetime.fromisoformat(text).astimezone(SHANGHAI).date()
