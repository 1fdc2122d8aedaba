"""What is explained, tried and tracked, over the administration API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from schemas.times import asked_time, parse_time
from services.identity.people import Person
from services.portal.actors import Callers, Calling
from services.portal.explaining import Explaining
from services.portal.progress import Progress
from services.portal.subscriptions import NOTHING_FOR, Grants, could_be_given
from services.portal.tracking import Tracking
from services.portal.trying import Period, Trying
from services.runtime.errors import FieldProblem, ForbiddenError, InvalidError, NotFoundError
from services.subscriptions.lifecycle import Actor


class DryRunBody(BaseModel):
    """The period to try (times, or days in Shanghai; the end left out), and how many examples to show."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    from_: str = Field(alias="from")
    to: str
    samples: Annotated[int, Field(ge=0, le=20)] = 0
    by: str | None = None


class Answers:
    """Who may ask what: the agency of itself, the owner of its types, the administrator of all but data."""

    def __init__(self, grants: Grants, explaining: Explaining, trying: Trying, tracking: Tracking) -> None:
        self.grants = grants
        self._explaining = explaining
        self._trying = trying
        self._tracking = tracking

    def explain(self, who: Actor, event: str, agency: str, source: str | None) -> dict[str, Any]:
        """Explain an event at an agency: to itself those that it got, or could have been given."""
        person = who.person
        owns: Callable[[str], bool] = lambda kind: person is not None and person.owns([kind])  # noqa: E731
        own = person is not None and person.agency == agency
        try:
            found = self._explaining.explain(event, agency, source, owns)
        except NotFoundError as error:
            raise (NotFoundError(NOTHING_FOR.format(event=event)) if own else error) from None
        if person is None or owns(found["event"]["type"]):
            return found
        if own:
            rows = self.grants.repository.list()
            if not found["got"] and not could_be_given(rows, agency, found["event"]["type"]):
                raise NotFoundError(NOTHING_FOR.format(event=event))
            return found if found["verdict"] == "routed" else found | {"reason": None}
        raise ForbiddenError(f"{who.name} 无权查看 {agency} 的 {event} (not theirs to see)")

    def dry_run(
        self, who: Actor, subscription: str, body: DryRunBody, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Try a grant on the past. Examples are data: only the owner of all its types is shown them.

        For everybody else the filters of what is not approved see public fields alone, so that none is an oracle.
        """
        row = self.grants.get(who, subscription)
        owner = who.person is not None and who.person.owns(row["types"])
        if body.samples and not owner:
            raise ForbiddenError("样例只给数据提供方的批准人看 (examples are shown to the data's owner alone)")
        problems: list[FieldProblem] = []
        times = []
        for name, text in (("from", body.from_), ("to", body.to)):
            try:
                times.append(parse_time(text)[0])
            except ValueError as error:
                problems.append(FieldProblem(f"/{name}", str(error)))
        if not problems and times[0] >= times[1]:
            problems.append(FieldProblem("/to", "应晚于 from (later than from)"))
        if problems:
            raise InvalidError(problems)
        return self._trying.dry_run(row, Period(*times), body.samples, whole=owner, progress=progress)

    def show(self, who: Actor, subscription: str) -> dict[str, Any]:
        """Return a grant, and how far its backfill is."""
        row = self.grants.get(who, subscription)
        if row["backfill_from"] is None or row["approver"] is None:
            return row | {"backfill": None}
        return row | {"backfill": self._tracking.backfill(subscription, row["types"])}

    def follow_ups(self, who: Actor, state: str, overdue: bool, since: str | None) -> list[dict[str, Any]]:
        """Return the follow-ups that somebody may see."""
        try:
            at = asked_time(since) if since is not None else None
        except ValueError as error:
            raise InvalidError([FieldProblem("/since", str(error))]) from error
        rows = self._tracking.follow_ups(open_only=state == "open", overdue_only=overdue, since=at)
        person = who.person
        return [row for row in rows if person is None or _concerns(person, row)]


def _concerns(person: Person, row: Mapping[str, Any]) -> bool:
    return person.owns([row["type"]]) or (row["agency"] is not None and row["agency"] == person.agency)


def answer_routes(router: APIRouter, answers: Answers, callers: Callers) -> None:
    """Put the routes on a router."""

    @router.get("/subscriptions/{subscription}")
    def show(subscription: str, who: Calling) -> dict[str, Any]:
        return answers.show(who, subscription)

    @router.post("/subscriptions/{subscription}/dry-run")
    def dry_run(subscription: str, body: DryRunBody, who: Calling) -> dict[str, Any]:
        return answers.dry_run(callers.acting(who, body.by), subscription, body)

    @router.get("/explain")
    def explain(event: str, agency: str, who: Calling, source: str | None = None) -> dict[str, Any]:
        return answers.explain(who, event, agency, source)

    @router.get("/follow-ups")
    def follow_ups(
        who: Calling,
        state: Annotated[str, Query(pattern="^(open|all)$")] = "open",
        overdue: bool = False,
        since: str | None = None,
    ) -> list[dict[str, Any]]:
        return answers.follow_ups(who, state, overdue, since)
