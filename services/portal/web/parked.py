"""Parked events and dead letters: looked at, put back, corrected, one or many, always with a reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fastapi import APIRouter, Response

from schemas.contracts import Contracts
from schemas.topics import DEADLETTER_STAGES
from services.identity.people import Role
from services.portal.letters import MOST_AT_ONCE, LetterDesk
from services.portal.letters import SHOWN as LETTERS_SHOWN
from services.portal.parking import SHOWN, Parking, Wanted
from services.portal.progress import Progress
from services.portal.web.audit import Audit
from services.portal.web.correcting import attribute_inputs, correction_of, data_inputs
from services.portal.web.forms import Posted, reason_of
from services.portal.web.long import Long
from services.portal.web.remembering import Kept
from services.portal.web.rendering import Pages
from services.portal.web.viewer import Viewer, Viewing
from services.quarantine.desk import Correction
from services.quarantine.letters import Search
from services.quarantine.parked import MOST_REPLAYED
from services.runtime.errors import ConflictError, ForbiddenError, InvalidError


@dataclass(frozen=True, slots=True)
class Quarantine:
    """What these pages call."""

    parking: Parking
    letters: LetterDesk
    contracts: Contracts
    audit: Audit
    kept: Kept
    agency_name: Callable[[str], str]


def routes(pages: Pages, quarantine: Quarantine, long: Long) -> APIRouter:
    """Return the pages."""
    router = APIRouter()
    _parked(router, pages, quarantine, long)
    _letters(router, pages, quarantine, long)
    return router


def _parked(router: APIRouter, pages: Pages, quarantine: Quarantine, long: Long) -> None:
    @router.get("/parked")
    def listed(
        viewer: Viewing,
        agency: str = "",
        type: str = "",  # noqa: A002  (the attribute's name)
        status: str = "",
        text: str = "",
        replayed: bool = False,
    ) -> Response:
        wanted = Wanted(agency or None, type or None, status or None, text.strip() or None, replayed)
        side = _agency_side(viewer)
        held = quarantine.kept.get(("parked", side, wanted), lambda: quarantine.parking.listing(side, wanted))
        return pages.page(
            viewer,
            "parked/list.html",
            found=held.value,
            wanted=wanted,
            held=held,
            most=SHOWN,
            most_replayed=MOST_REPLAYED,
            agency_name=quarantine.agency_name,
        )

    @router.get("/parked/{agency}/{offset:int}")
    def look(agency: str, offset: int, viewer: Viewing) -> Response:
        side = _agency_side(viewer)
        held = quarantine.kept.get(
            ("parked", side, agency, offset), lambda: quarantine.parking.look(side, agency, offset)
        )
        found = held.value
        if found.personal:
            quarantine.audit.viewed(viewer, f"parked/{agency}/{offset}", found.personal)
        return pages.page(
            viewer,
            "parked/one.html",
            found=found,
            held=held,
            agency_name=quarantine.agency_name,
        )

    @router.post("/parked/{agency}/replay")
    def replay(agency: str, viewer: Viewing, form: Posted) -> Response:
        side, by = _agency_side(viewer), viewer.actor.name
        reason, offsets = reason_of(form), [int(one) for one in _ticked(form, "offset/") if one.isdigit()]

        def run(_progress: Progress) -> Mapping[str, object]:
            with quarantine.audit.doing(
                viewer, "parked.replay", f"parked/{agency}", reason, offsets=[str(one) for one in offsets]
            ):
                return quarantine.parking.replay(side, agency, offsets, reason, by)

        return long.begin(viewer, "replay", f"{agency} · {len(offsets)}", f"/parked/{agency}/replayed/{{job}}", run)

    @router.get("/parked/{agency}/replayed/{identity}")
    def replayed(agency: str, identity: str, viewer: Viewing) -> Response:
        return pages.page(viewer, "parked/replayed.html", agency=agency, found=long.job(viewer, identity).outcome())


def _letters(router: APIRouter, pages: Pages, quarantine: Quarantine, long: Long) -> None:
    def one(
        viewer: Viewer,
        stage: str,
        offset: int,
        form: Mapping[str, str] | None = None,
        problems: Mapping[str, Sequence[str]] | None = None,
        error: str | None = None,
        status: int = 200,
    ) -> Response:
        side = _department_side(viewer)
        held = quarantine.kept.get(
            ("letter", side, stage, offset), lambda: quarantine.letters.look(side, stage, offset)
        )
        seen = held.value
        if seen.personal:
            quarantine.audit.viewed(viewer, f"dead-letter/{stage}/{offset}", seen.personal)
        return pages.page(
            viewer,
            "deadletters/one.html",
            status=status,
            seen=seen,
            held=held,
            whole=side is not None,
            attributes=attribute_inputs(seen, all_of_them=side is None),
            inputs=data_inputs(seen, whole=side is not None),
            form=form or {},
            problems=problems or {},
            error=error,
        )

    @router.get("/dead-letters")
    def listed(
        viewer: Viewing,
        stage: str = "",
        type: str = "",  # noqa: A002
        text: str = "",
        state: str = "open",
    ) -> Response:
        chosen: Literal["open", "corrected"] = "corrected" if state == "corrected" else "open"
        search = Search(stage or None, type or None, None, text.strip() or None, chosen)
        side = _department_side(viewer)
        held = quarantine.kept.get(("letters", side, search), lambda: quarantine.letters.listing(side, search))
        return pages.page(
            viewer,
            "deadletters/list.html",
            found=held.value[:LETTERS_SHOWN],
            more=len(held.value) > LETTERS_SHOWN,
            search=search,
            held=held,
            stages=DEADLETTER_STAGES,
            most=LETTERS_SHOWN,
            most_at_once=MOST_AT_ONCE,
        )

    @router.get("/dead-letters/{stage}/{offset:int}")
    def look(stage: str, offset: int, viewer: Viewing) -> Response:
        return one(viewer, stage, offset)

    @router.post("/dead-letters/{stage}/{offset:int}")
    def correct(stage: str, offset: int, viewer: Viewing, form: Posted) -> Response:
        side = _department_side(viewer)
        seen = quarantine.letters.look(side, stage, offset)
        inputs = [
            *attribute_inputs(seen, all_of_them=side is None),
            *data_inputs(seen, whole=side is not None),
        ]
        try:
            reason = reason_of(form)
            attributes, data = correction_of(form, inputs, seen.letter["data"])
            correction = Correction(viewer.actor.name, reason, attributes, data)
            changed = [*attributes, *(f"data/{name}" for name in data)]
            number = f"dead-letter/{stage}/{offset}"
            with quarantine.audit.doing(viewer, "dead-letter.resubmit", number, reason, changed=changed):
                record = quarantine.letters.resubmit(side, stage, offset, correction)
        except InvalidError as error:
            problems: dict[str, list[str]] = {}
            for problem in error.problems:
                problems.setdefault(problem.pointer, []).append(problem.detail)
            return one(viewer, stage, offset, form, problems, status=422)
        except (ConflictError, ForbiddenError) as error:
            return one(viewer, stage, offset, form, error=str(error), status=409)
        return pages.page(viewer, "deadletters/done.html", record=record, number=f"{stage}/{offset}")

    @router.post("/dead-letters/resubmit")
    def resubmit(viewer: Viewing, form: Posted) -> Response:
        side, by = _department_side(viewer), viewer.actor.name
        reason, numbers = reason_of(form), _ticked(form, "number/")

        def run(progress: Progress) -> Sequence[Mapping[str, object]]:
            with quarantine.audit.doing(viewer, "dead-letter.resubmit", "dead-letters", reason, numbers=numbers):
                return quarantine.letters.resubmit_all(side, numbers, by, reason, progress)

        return long.begin(viewer, "resubmit", str(len(numbers)), "/dead-letters/resubmitted/{job}", run)

    @router.get("/dead-letters/resubmitted/{identity}")
    def resubmitted(identity: str, viewer: Viewing) -> Response:
        return pages.page(viewer, "deadletters/resubmitted.html", found=long.job(viewer, identity).outcome())


def _agency_side(viewer: Viewer) -> str | None:
    """Return the agency whose parked events somebody sees, None for all; raises ForbiddenError."""
    if viewer.has(Role.SYSTEM):
        return None
    if viewer.agency is None:
        raise ForbiddenError("停放的事件由接收单位和系统管理员处理 (not theirs)")
    return viewer.agency


def _department_side(viewer: Viewer) -> str | None:
    """Return the department whose dead letters somebody sees, None for all; raises ForbiddenError."""
    if viewer.has(Role.SYSTEM):
        return None
    if viewer.department is None:
        raise ForbiddenError("死信由发布部门和系统管理员处理 (not theirs)")
    return viewer.department


def _ticked(form: Mapping[str, str], start: str) -> list[str]:
    return sorted(name.removeprefix(start) for name, value in form.items() if name.startswith(start) and value)
