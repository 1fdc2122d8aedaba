"""Events: the search, one event's page with its timeline, and why an agency has it or not."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Response

from schemas.contracts import Contracts
from schemas.formats import normalise_certificate_no, normalise_code
from schemas.times import parse_time
from services.ledger.reading import LedgerReader, SearchTooWideError
from services.ledger.searching import Criteria, Page, Scope
from services.portal.event_log import EventLog
from services.portal.explaining import Explaining
from services.portal.subscriptions import NOTHING_FOR, Grants, could_be_given
from services.portal.web.audit import Audit
from services.portal.web.contents import Contents
from services.portal.web.overview import Present
from services.portal.web.plain_words import division_name, in_language, type_name
from services.portal.web.reasons import Reader, Reason, for_reader, why
from services.portal.web.remembering import Held, Kept, kept_or_none
from services.portal.web.rendering import Pages
from services.portal.web.sides import Parties, Side
from services.portal.web.viewer import Viewer, Viewing
from services.portal.web.wording import Text
from services.runtime.errors import FieldProblem, ForbiddenError, InvalidError, NotFoundError, UnavailableError
from services.subscriptions.grants import GrantRepository

PAGE = 30
GUESSING_S = 6.0
"""So long may all guesses take together of what a text is."""
NOT_KEPT = "路由记录已过 Kafka 的保存期 (what the router noted is no longer kept)"
NOT_YET = "没有查到，但台账还没有收全，请稍后再查 (not found, but the ledger is behind: ask again later)"
GRANTS = "grants"
_AROUND = str.maketrans("", "", "第号字()[]")
_BEGINNING = re.compile(r"(?=.*\d{3})[\u4e00-\u9fff0-9A-Z][\u4e00-\u9fff0-9A-Z-]{3,39}")
"""At least four characters, three digits among them in a row."""
GOT = frozenset({"delivered", "accepted", "rejected"})
AGENCY_STATES: Mapping[str, tuple[str, Text]] = {
    "pending": ("warn", Text("待送达")),
    "delivered": ("ok", Text("已送达")),
    "accepted": ("ok", Text("已接收")),
    "rejected": ("warn", Text("已拒收")),
    "parked": ("bad", Text("已停放")),
}
VERDICTS: Mapping[str | None, tuple[str, Text]] = {
    None: ("warn", Text("尚未路由")),
    "routed": ("ok", Text("已路由")),
    "duplicate": ("off", Text("重复")),
    "conflict": ("bad", Text("冲突")),
    "deadletter": ("bad", Text("死信")),
}
MOMENTS: Mapping[str, Text] = {
    "occurred": Text("办理发生"),
    "published": Text("部门发布，网关收下"),
    "logged": Text("写入日志"),
    "routed": Text("路由完成"),
    "entitled": Text("补送给"),
    "attempted": Text("第一次投递"),
    "delivered": Text("送达"),
    "accepted": Text("业务回执：已接收"),
    "rejected": Text("业务回执：已拒收"),
    "parked": Text("拒收，已停放"),
}
KINDS: Mapping[str, Text] = {
    "event": Text("按事件编号"),
    "identifier": Text("按证书号或机构代码"),
    "subject": Text("按业务主键"),
    "number": Text("按号码的开头"),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the form of the search holds, as text."""

    q: str = ""
    agency: str = ""
    source: str = ""
    type: str = ""
    since: str = ""
    until: str = ""

    def query(self, **more: str) -> str:
        """Return it as the query of an address, by the names of the form's fields."""
        named = asdict(self) | more
        return urlencode({name: text for name, text in named.items() if text})


@dataclass(frozen=True, slots=True)
class Told:
    """Why, what could not be asked, and each grant against the event where that is known and may be seen."""

    reason: Reason
    unasked: str = ""
    grants: Mapping[str, Any] | None = None


class Events:
    """Answers the pages; who may see what is the ledger's to say."""

    def __init__(
        self,
        ledger: LedgerReader,
        present: Present,
        log: EventLog,
        explaining: Explaining,
        contents: Contents,
        contracts: Contracts,
        grants: GrantRepository,
    ) -> None:
        self.ledger = ledger
        self.present = present
        self.contents = contents
        self._log = log
        self._explaining = explaining
        self._kept = Kept(present.clock)
        self._contracts = contracts
        self._grants = grants

    def search(self, scope: Scope, asked: Asked, before: str) -> Held[tuple[Page, str | None]]:
        """Return a page of events, and as what the text was found."""
        base = Criteria(
            source=asked.source or None,
            type=asked.type or None,
            agency=asked.agency or None,
            since=_time(asked.since, "/since"),
            until=_time(asked.until, "/until"),
        )

        def read() -> tuple[Page, str | None]:
            until_s = time.monotonic() + GUESSING_S
            return guessed(
                _tries(asked.q, base),
                lambda criteria: self.ledger.search(scope, criteria, PAGE, before or None, until_s),
            )

        return self._kept.get((scope, asked, before), read)

    def stories(self, scope: Scope, event: str, source: str, subject: str) -> Held[list[dict[str, Any]]]:
        """Return the events of an id as their reader may know them, newest last; raises NotFoundError."""
        held = self._kept.get((scope, event, source), lambda: self.ledger.timeline(scope, event, source or None))
        found = [one for one in held.value if not subject or one["subject"] == subject]
        if not found:
            raise self.missing(f"台账中没有可见的事件 {event} (no such event for you to see)")
        return replace(held, value=found)

    def missing(self, said: str) -> NotFoundError:
        """Return that an event was not found, or that it may only not be in the ledger yet."""
        return NotFoundError(said if self.present.reach().whole else NOT_YET)

    def types(self, side: Side) -> list[str]:
        """Return the types that a reader may search by."""
        if side.department is not None:
            return sorted(side.department.types)
        return sorted(name for name in self._contracts.types if name not in self._contracts.probe_types())

    def reason(self, viewer: Viewer, side: Side, story: Mapping[str, Any], agency: str) -> Told:
        """Return why an agency has an event or not, and what could not be asked."""
        told = {**story, "type_title": type_name(story["type"], viewer.language)}
        standing, reader = self.present.standing(agency), self._reader(viewer, side, story)
        entitled = any(one["agency"] == agency for one in story["agencies"])
        if story["verdict"] != "routed":
            return Told(for_reader(why(told, agency, standing, None), reader))
        owns = viewer.person.owns([story["type"]])
        found: Mapping[str, Any] | None = None
        try:
            entry = self._log.entry(story)
            found = self._explaining.explain_entries(agency, [entry], lambda _: owns) if entry is not None else None
            unasked = "" if found is not None or entitled else NOT_KEPT
        except UnavailableError as error:
            unasked = str(error)
        found = _about(found, side) if found is not None else None
        reason = for_reader(why(told, agency, standing, None if entitled else found), reader)
        may = side.department is None or owns
        return Told(reason, unasked, found if may else None)

    def grants(self) -> Sequence[Mapping[str, Any]]:
        """Return all grants as they were read last, none where they never were."""
        held = kept_or_none(lambda: self._kept.get(GRANTS, self._grants.list))
        return held.value if held else ()

    def _reader(self, viewer: Viewer, side: Side, story: Mapping[str, Any]) -> Reader:
        """Return who asks, for what they are told and where they can go."""
        if side.all:
            return Reader()
        grants = [row["id"] for row in self.grants() if Grants.seen_by(viewer.actor, row)]
        if side.agency is not None:
            return Reader("agency", grants)
        return Reader("publisher", grants, address("/events/one", story))


def _tries(text: str, base: Criteria) -> Iterator[tuple[str | None, Criteria]]:
    """Give what a text may be: an event's id, a number in it as written or in its one form, its business key."""
    if not text:
        yield None, base
        return
    yield "event", replace(base, event=text)
    for form in dict.fromkeys((text, normalise_certificate_no(text), normalise_code(text))):
        yield "identifier", replace(base, identifier=form)
    yield "subject", replace(base, subject=text)
    begun = beginning(text)
    if begun is not None:
        yield "number", replace(base, number=begun)


def beginning(text: str) -> str | None:
    """Return what a number, or what stands in it after 第, may begin with; None for too little to go by.

    People leave out 第…号 and brackets, write spaces and full-width digits, or type the digits alone.
    """
    found = normalise_certificate_no(text).translate(_AROUND)
    return found if _BEGINNING.fullmatch(found) else None


def guessed(
    tries: Iterable[tuple[str | None, Criteria]], search: Callable[[Criteria], Page]
) -> tuple[Page, str | None]:
    """Return what the first guess finds that finds anything, and as what; what no guess could look through is told.

    Raises SearchTooWideError where nothing was found and a guess could not be begun.
    """
    page, found_as = Page([]), None
    unfinished: Page | None = None
    too_wide: SearchTooWideError | None = None
    for name, criteria in tries:
        found_as = name
        try:
            page = search(criteria)
        except SearchTooWideError as error:
            too_wide = error
            continue
        if page.events:
            break
        if page.cut == "time" and (unfinished is None or _since(page) > _since(unfinished)):
            unfinished = page
    if too_wide is not None and not page.events:
        raise too_wide
    if unfinished is not None and page.cut is None:
        page = replace(page, before=unfinished.before, cut="time", searched_since=unfinished.searched_since)
    return page, found_as


def _since(page: Page) -> datetime:
    return page.searched_since or datetime.min.replace(tzinfo=UTC)


def _time(text: str, pointer: str) -> datetime | None:
    if not text:
        return None
    try:
        return parse_time(text)[0]
    except ValueError as error:
        raise InvalidError([FieldProblem(pointer, str(error))]) from error


def address(path: str, story: Mapping[str, Any], **more: str) -> str:
    """Return the address of a page about an event: an id may hold anything."""
    named = {"id": story.get("id") or story.get("event_id"), "source": story["source"], "subject": story["subject"]}
    return f"{path}?{urlencode({name: value for name, value in {**named, **more}.items() if value})}"


def timed(moments: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what happened with the seconds that each step took (None for the first), oldest first.

    An agency's step follows the one before of its own, the first of them the routing: agencies go side by side.
    """
    found: list[dict[str, Any]] = []
    last: dict[str | None, datetime] = {}
    for one in moments:
        before = last.get(one["agency"], last.get(None))
        found.append({**one, "step_s": None if before is None else (one["at"] - before).total_seconds()})
        last[one["agency"]] = one["at"]
    return found


def routes(pages: Pages, audit: Audit, parties: Parties, events: Events) -> APIRouter:
    """Return the routes."""
    router = APIRouter()
    shared: dict[str, Any] = {
        "agency_states": AGENCY_STATES,
        "verdicts": VERDICTS,
        "moments": MOMENTS,
        "kinds": KINDS,
        "address": address,
        "type_name": type_name,
        "division_name": division_name,
        "said": in_language,
        "source_name": parties.source_name,
        "agency_name": parties.agency_name,
        "got": GOT,
        "timed": timed,
    }

    @router.get("/events")
    def search(
        viewer: Viewing,
        q: str = "",
        agency: str = "",
        source: str = "",
        type: str = "",  # noqa: A002  (CloudEvents' name)
        since: str = "",
        until: str = "",
        before: str = "",
    ) -> Response:
        side = parties.side_of(viewer)
        asked = Asked(q.strip(), agency.strip(), source.strip(), type.strip(), since.strip(), until.strip())
        problems: Sequence[FieldProblem] = ()
        held: Held[tuple[Page, str | None]] = Held((Page([]), None), events.present.clock.now())
        try:
            held = events.search(side.scope, asked, before)
        except InvalidError as error:
            problems = error.problems
        page, found_as = held.value
        return pages.page(
            viewer,
            "events/search.html",
            422 if problems else 200,
            side=side,
            asked=asked,
            found=page,
            held=held,
            found_as=found_as,
            reach=events.present.reach(),
            problems=problems,
            types=events.types(side),
            agencies=parties.agencies().value,
            departments=parties.departments().value,
            older=f"/events?{asked.query(before=page.before)}" if page.before else None,
            **shared,
        )

    @router.get("/events/one")
    def one(viewer: Viewing, id: str = "", source: str = "", subject: str = "", personal: bool = False) -> Response:  # noqa: A002
        side = parties.side_of(viewer)
        held = events.stories(side.scope, id, source, subject)
        story = held.value[-1]
        content = events.contents.show(side, story, viewer.language, personal=personal)
        # Recorded before the page is made: what can't be recorded is not shown.
        audit.viewed(viewer, f"event/{story['id']}", content.personal)
        entitled = {part["agency"] for part in story["agencies"]}
        others = sorted(set(parties.agencies().value) - entitled) if side.agency is None else []
        return pages.page(
            viewer,
            "events/one.html",
            side=side,
            story=story,
            same=held.value[:-1],
            held=held,
            reach=events.present.reach(),
            content=content,
            others=others,
            **shared,
        )

    @router.get("/events/why")
    def explain(viewer: Viewing, id: str = "", agency: str = "", source: str = "", subject: str = "") -> Response:  # noqa: A002
        side = parties.side_of(viewer)
        agency = agency or side.agency or ""
        if side.agency is not None and agency != side.agency:
            raise ForbiddenError(f"只能问自己单位 (ask about your own agency only): {side.agency}")
        agencies = parties.agencies().value
        if not id or not agency:
            return pages.page(viewer, "events/ask.html", side=side, id=id, agency=agency, agencies=agencies)
        if parties.agency(agency) is None:
            raise NotFoundError(f"没有接收单位 {agency} (no such agency)")
        held = _told(events, side, id, source, subject)
        story = held.value
        told = events.reason(viewer, side, story, agency)
        part = next((part for part in story["agencies"] if part["agency"] == agency), None)
        return pages.page(
            viewer,
            "events/why.html",
            side=side,
            story=story,
            agency=agency,
            held=held,
            reach=events.present.reach(),
            reason=told.reason,
            unasked=told.unasked,
            found=told.grants,
            standing=events.present.standing(agency) if side.department is None or part is not None else None,
            part=part,
            **shared,
        )

    return router


def _about(found: Mapping[str, Any], side: Side) -> Mapping[str, Any]:
    """Return what a department may know of an agency's grants: those on the event's type, which is its own."""
    if side.department is None:
        return found

    def ours(grants: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return [one for one in grants if any(right["right"] == "type" and right["holds"] for right in one["rights"])]

    return {**found, "of_type": True, "then": ours(found["then"]), "now": ours(found["now"])}


def _told(events: Events, side: Side, event: str, source: str, subject: str) -> Held[Mapping[str, Any]]:
    """Return the story that a reason is given for. An agency may ask why it did not get an event that it can't see:
    one of a type that it was granted. It is told no more of it than the reason, and of nobody else.
    """
    try:
        held = events.stories(side.scope, event, source, subject)
        return Held(held.value[-1], held.at, held.away)
    except NotFoundError:
        if side.agency is None:
            raise
    try:
        held = events.stories(Scope.operator(), event, source, subject)
    except NotFoundError:
        raise events.missing(NOTHING_FOR.format(event=event)) from None
    rows = events.grants()
    found = [one for one in held.value if could_be_given(rows, side.agency, one["type"])]
    if not found:
        raise events.missing(NOTHING_FOR.format(event=event))
    # The business key says whose certificate it is: that is for who got it.
    told = {**found[-1], "subject": None, "agencies": [], "moments": [], "completeness": None}
    return Held(told, held.at, held.away)
