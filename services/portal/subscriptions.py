"""Grants over the administration API: applied for by an agency's person, decided by the data's owner."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from schemas.contracts import Contracts
from schemas.formats import division_prefix, is_division_prefix
from schemas.registry_client import RegistryAway, RegistryError
from schemas.times import parse_time
from services.portal.actors import Callers, Calling
from services.portal.api import NO_DIVISION
from services.portal.contents import content_problems
from services.portal.impaired import IN_FORCE
from services.routing.fields import FieldPolicy, policy_of, union_id
from services.routing.matching import common
from services.routing.redaction import Redactor
from services.runtime.clock import Clock
from services.runtime.errors import FieldProblem, ForbiddenError, InvalidError, RegistryUnavailableError
from services.subscriptions.control import policy_id
from services.subscriptions.grants import Grant, GrantRepository
from services.subscriptions.lifecycle import Action, Actor, Standing, decide
from services.subscriptions.repository import AgencyRepository

Text = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
TIMES = ("valid_from", "valid_until", "backfill_from")


class GrantBody(BaseModel):
    """What is applied for: CloudEvents Subscriptions' types and filters, and what the law adds.

    ``by`` is who applies. With ``approve_by`` application and approval are entered in one call, by the two people
    named; nothing else about them is different.
    """

    model_config = ConfigDict(extra="forbid")

    agency: str
    types: list[str] = Field(min_length=1)
    filters: list[dict[str, Any]] = []
    basis: Text
    scene: Text
    scope: Text
    method: Text
    valid_from: str | None = None
    valid_until: str | None = None
    backfill_from: str | None = None
    fields: dict[str, Any] | None = None
    divisions: list[str] = []
    forward_to: list[str] = []
    replaces: str | None = None
    by: str | None = None
    approve_by: str | None = None


class DecisionBody(BaseModel):
    """Why, by whom, and on what version, where a person wants to be sure of what they have seen."""

    model_config = ConfigDict(extra="forbid")

    reason: Text
    by: str | None = None
    version: int | None = None


NOTHING_FOR = (
    "台账中没有 {event}，或者本单位没有申请过它的类型 (not in the ledger, or of a type that you never applied for)"
)
"""What an agency is told of an event that is not there, and of one that it could not have been given: the same."""


def could_be_given(rows: Iterable[Mapping[str, Any]], agency: str, kind: str | None) -> bool:
    """Tell whether an agency has a grant of a type, or has applied for one: it may try that on public fields."""
    return any(kind in row["types"] and agency in (row["agency"], *row["forward_to"]) for row in rows)


class Grants:
    """What the API does with grants, without HTTP."""

    def __init__(
        self,
        grants: GrantRepository,
        agencies: AgencyRepository,
        contracts: Contracts,
        redactor: Redactor,
        clock: Clock,
        on_decided: Callable[[], None] = lambda: None,
    ) -> None:
        self.repository = grants
        self._agencies = agencies
        self._contracts = contracts
        self._redactor = redactor
        self._clock = clock
        self._on_decided = on_decided

    def apply(self, body: GrantBody, applicant: Actor, approver: Actor | None) -> dict[str, Any]:
        """Add a draft; with an approver also submit and approve it. Raises InvalidError that names each bad field."""
        grant = self._grant(body)
        name = f"sub-{secrets.token_hex(6)}"
        if approver is not None:
            # Looked at before anything is written: a refusal leaves no draft behind.
            self._submittable(grant)
            submitted = Standing(grant.agency, grant.types, "submitted", applied={applicant.name})
            decide("approve", submitted, approver, self._clock.now())
        drafted = self.repository.draft(name, grant, applicant, body.basis)
        if approver is None:
            return drafted
        self.act(name, "submit", applicant, DecisionBody(reason=body.basis))
        return self.act(name, "approve", approver, DecisionBody(reason=body.basis))

    def edit(self, subscription: str, body: GrantBody, applicant: Actor) -> dict[str, Any]:
        """Change a draft."""
        return self.repository.edit(subscription, self._grant(body), applicant, body.basis)

    def act(self, subscription: str, action: Action, actor: Actor, body: DecisionBody) -> dict[str, Any]:
        """Take a decision; what is submitted or approved is looked at again, and refused as a whole or not at all."""
        check = self._approvable if action == "approve" else self._submittable
        decided = self.repository.act(subscription, action, actor, body.reason, check, body.version)
        self._on_decided()
        return decided

    @staticmethod
    def seen_by(caller: Actor, row: Mapping[str, Any]) -> bool:
        """Tell whether a grant is shown to somebody: their agency's, or one of types that they decide on."""
        person = caller.person
        return person is None or person.agency == row["agency"] or bool(set(row["types"]) & set(person.approves))

    def visible(self, caller: Actor) -> list[dict[str, Any]]:
        """Return the grants that somebody may see."""
        return [self._attended(row) for row in self.repository.list() if self.seen_by(caller, row)]

    def get(self, caller: Actor, subscription: str) -> dict[str, Any]:
        """Return one with its decisions; raises NotFoundError or ForbiddenError."""
        row = self.repository.get(subscription)
        if not self.seen_by(caller, row):
            raise ForbiddenError(f"{caller.name} 无权查看 {subscription} (not theirs to see)")
        return self._attended(row)

    def _attended(self, row: dict[str, Any]) -> dict[str, Any]:
        """Add to a grant in force what a later schema has taken away from it, for somebody to see to."""
        if row["state"] not in IN_FORCE:
            return row | {"problems": []}
        found = content_problems(self._contracts, row["types"], row["filters"], row["fields"])
        return row | {"problems": [f"{one.pointer}: {one.detail}" for one in found]}

    def check(self, grant: Grant) -> None:
        """Raise InvalidError that names everything that keeps a grant from being given."""
        problems = content_problems(self._contracts, grant.types, grant.filters, grant.fields)
        if not problems:
            problems = [*self._reach_problems(grant), *self._time_problems(grant)]
        if problems:
            raise InvalidError(problems)

    def _submittable(self, grant: Grant) -> None:
        """Check a grant, and that it says until when the data may be used (政务数据共享条例, art. 20)."""
        self.check(grant)
        if grant.valid_until is None:
            detail = "使用时限必填：政务数据共享条例第二十条 (until when it may be used must be said)"
            raise InvalidError([FieldProblem("/valid_until", detail)])

    def _approvable(self, grant: Grant) -> None:
        """Check a grant, and make the schemas that follow from it known, so that no event waits for that.

        Also those of its policy together with the agency's others: an event may match several grants.
        """
        self._submittable(grant)
        if grant.fields is None:
            return
        try:
            for name in grant.types:
                for policy in self._policies(grant, name):
                    self._redactor.register(self._contracts.types[name].schema, policy)
        except RegistryAway as error:
            raise RegistryUnavailableError(str(error)) from error
        except RegistryError as error:
            raise InvalidError(
                [FieldProblem("/fields", f"派生模式登记不成 (its schema is refused): {error}")]
            ) from error

    def _policies(self, grant: Grant, kind: str) -> list[FieldPolicy]:
        """Return the policies that events of a type may go by: the grant's, with each other, and with all others."""
        others = [
            row["fields"]
            for row in self.repository.list()
            if row["agency"] == grant.agency and kind in row["types"] and row["state"] in IN_FORCE and row["fields"]
        ]
        documents = {policy_id(fields): fields for fields in [*others, grant.fields or {}]}
        mine = policy_id(grant.fields or {})
        wanted = {mine, union_id(documents), *(union_id([mine, other]) for other in documents)}
        return [policy_of(identity, documents) for identity in sorted(wanted)]

    def _grant(self, body: GrantBody) -> Grant:
        problems: list[FieldProblem] = []
        values = body.model_dump(exclude={"by", "approve_by"})
        values |= {name: _time(name, values[name], problems) for name in TIMES}
        if problems:
            raise InvalidError(problems)
        grant = Grant(**values | {"divisions": [division_prefix(code) for code in body.divisions]})
        self.check(grant)
        return grant

    def _reach_problems(self, grant: Grant) -> list[FieldProblem]:
        problems = [
            FieldProblem(f"/divisions/{number}", NO_DIVISION)
            for number, code in enumerate(grant.divisions)
            if not is_division_prefix(code)
        ]
        agencies = {row["id"]: division_prefix(row["division"]) for row in self._agencies.list()}
        own = agencies.get(grant.agency)
        if own is None:
            return [*problems, FieldProblem("/agency", f"没有这个接收单位 (no agency {grant.agency})")]
        for number, name in enumerate(grant.forward_to):
            there = agencies.get(name)
            if there is None or name == grant.agency or not there.startswith(own):
                detail = "应为本级或下级的另一接收单位 (another agency of the same division or below)"
                problems.append(FieldProblem(f"/forward_to/{number}", f"{detail}: {name}"))
            elif grant.divisions and not common(grant.divisions, there):
                detail = "该单位的区划不在订阅的区划范围之内 (its division is outside of the grant's reach)"
                problems.append(FieldProblem(f"/forward_to/{number}", f"{detail}: {name}"))
        return problems + self._replaced_problems(grant)

    def _replaced_problems(self, grant: Grant) -> list[FieldProblem]:
        if grant.replaces is None:
            return []
        found = {row["id"]: row["agency"] for row in self.repository.list()}
        if found.get(grant.replaces) == grant.agency:
            return []
        return [FieldProblem("/replaces", f"该单位没有这个订阅 (no grant of this agency): {grant.replaces}")]

    def _time_problems(self, grant: Grant) -> list[FieldProblem]:
        problems = []
        if grant.valid_until is not None and self._clock.now() >= grant.valid_until:
            problems.append(FieldProblem("/valid_until", "使用时限已过 (the grant is past its time)"))
        elif grant.valid_until and grant.valid_from and grant.valid_from >= grant.valid_until:
            problems.append(FieldProblem("/valid_from", "晚于使用时限 (begins after its end)"))
        if grant.backfill_from is not None and grant.backfill_from > self._clock.now():
            problems.append(FieldProblem("/backfill_from", "补送起点应在过去 (a backfill begins in the past)"))
        return problems


def _time(name: str, text: str | None, problems: list[FieldProblem]) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_time(text)[0]
    except ValueError as error:
        problems.append(FieldProblem(f"/{name}", str(error)))
        return None


def subscription_routes(router: APIRouter, grants: Grants, callers: Callers) -> None:
    """Put the routes on a router."""

    @router.post("/subscriptions", status_code=201)
    def apply(body: GrantBody, who: Calling) -> dict[str, Any]:
        approver = callers.acting(who, body.approve_by, "/approve_by") if body.approve_by else None
        return grants.apply(body, callers.acting(who, body.by), approver)

    @router.put("/subscriptions/{subscription}")
    def edit(subscription: str, body: GrantBody, who: Calling) -> dict[str, Any]:
        return grants.edit(subscription, body, callers.acting(who, body.by))

    @router.get("/subscriptions")
    def all_of_them(who: Calling) -> list[dict[str, Any]]:
        return grants.visible(who)

    @router.post("/subscriptions/{subscription}/{action}")
    def act(
        subscription: str,
        action: Literal["submit", "return", "approve", "suspend", "resume", "terminate"],
        body: DecisionBody,
        who: Calling,
    ) -> dict[str, Any]:
        return grants.act(subscription, action, callers.acting(who, body.by), body)
