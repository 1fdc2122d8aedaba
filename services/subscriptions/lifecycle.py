"""The life of a grant: who may do what in which state, decided on values and a clock alone.

``draft → submitted → approved → active → suspended | expired | terminated``. Nobody does the two steps that time does:
an approved grant is active once its time has come, and one past its time is expired.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from services.identity.people import Person
from services.runtime.errors import ConflictError, FieldProblem, ForbiddenError, InvalidError

State = Literal["draft", "submitted", "approved", "active", "suspended", "expired", "terminated"]
Action = Literal["edit", "submit", "return", "approve", "suspend", "resume", "terminate"]
Party = Literal["applicant", "owner", "administrator"]
ADMINISTRATOR = "administrator"


@dataclass(frozen=True, slots=True)
class Move:
    """An action: the states that it may be taken in, the state that it leads to, and which parties may take it."""

    from_: frozenset[State]
    to: State
    by: frozenset[Party]


def _move(from_: Sequence[State], to: State, *by: Party) -> Move:
    return Move(frozenset(from_), to, frozenset(by))


MOVES: Mapping[Action, Move] = {
    "edit": _move(["draft"], "draft", "applicant"),
    "submit": _move(["draft"], "submitted", "applicant"),
    "return": _move(["submitted"], "draft", "owner"),
    "approve": _move(["submitted"], "active", "owner"),
    "suspend": _move(["approved", "active"], "suspended", "owner", "administrator"),
    "resume": _move(["suspended"], "active", "owner", "administrator"),
    "terminate": _move(
        ["draft", "submitted", "approved", "active", "suspended", "expired"],
        "terminated",
        "applicant",
        "owner",
        "administrator",
    ),
}


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a person, the administrator, or the administrator entering what a person has decided."""

    person: Person | None
    administrator: bool
    administrator_id: str = ADMINISTRATOR
    """Which administrator: a person who is one, or whoever holds the installation's key."""

    @property
    def name(self) -> str:
        """Return the name that the decision is kept under."""
        return self.person.id if self.person else self.administrator_id

    @property
    def entered_by(self) -> str:
        """Return whose credential was used."""
        return self.administrator_id if self.administrator else self.name


@dataclass(frozen=True, slots=True)
class Standing:
    """What a decision hangs on: the grant's agency and types, its kept state, its times, and who applied."""

    agency: str
    types: Sequence[str]
    state: State
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    applied: Collection[str] = ()


def shown_state(state: State, valid_from: datetime | None, valid_until: datetime | None, now: datetime) -> State:
    """Return the state as it stands now: what time does needs nobody to act."""
    if state in {"approved", "active", "suspended"} and valid_until is not None and now >= valid_until:
        return "expired"
    if state in {"approved", "active"}:
        return "approved" if valid_from is not None and now < valid_from else "active"
    return state


def decide(action: Action, standing: Standing, actor: Actor, now: datetime) -> State:
    """Return the state that an action leads to.

    Raises ConflictError (not in this state), ForbiddenError (not by this person) or InvalidError (past its time).
    """
    move = MOVES[action]
    shown = shown_state(standing.state, standing.valid_from, standing.valid_until, now)
    if shown not in move.from_:
        raise ConflictError(f"状态是 {shown}，不能 {action} (its state is {shown}: {action} is not possible)")
    if not (move.by & parties(standing, actor)):
        raise ForbiddenError(_lacks(action, move, standing, actor))
    if action == "approve":
        _check_approval(standing, actor)
    if action in {"submit", "approve"} and standing.valid_until is not None and now >= standing.valid_until:
        raise InvalidError([FieldProblem("/valid_until", "使用时限已过 (the grant is past its time)")])
    return move.to


def possible(standing: Standing, actor: Actor, now: datetime) -> list[Action]:
    """Return what somebody may do with a grant as it stands."""
    found: list[Action] = []
    for action in MOVES:
        try:
            decide(action, standing, actor, now)
        except (ConflictError, ForbiddenError, InvalidError):
            continue
        found.append(action)
    return found


def parties(standing: Standing, actor: Actor) -> set[Party]:
    """Return what somebody is to a grant. The administrator applies and approves for nobody but a person named."""
    found: set[Party] = set()
    if actor.person is None:
        return {"administrator"} if actor.administrator else found
    if actor.person.agency == standing.agency:
        found.add("applicant")
    if actor.person.owns(standing.types):
        found.add("owner")
    return found


def _check_approval(standing: Standing, actor: Actor) -> None:
    if actor.name in standing.applied:
        raise ForbiddenError(
            f"{actor.name} 是申请人，须由另一人批准 (the applicant can't approve: it takes another person)"
        )


def _lacks(action: Action, move: Move, standing: Standing, actor: Actor) -> str:
    needed = {
        "applicant": f"{standing.agency} 的人员 (a person of the agency)",
        "owner": "对其全部事件类型有数据提供方批准权的人员 (a person with the owner's right for all of its types)",
        "administrator": "管理员 (the administrator)",
    }
    return f"{actor.name} 不能 {action}，需要：" + "；".join(needed[party] for party in sorted(move.by))
