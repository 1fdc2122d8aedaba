"""The life of a grant, decided on values and a clock: every action in every state, by everybody."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import get_args

import pytest

from services.identity.people import Person
from services.runtime.errors import ConflictError, ForbiddenError, InvalidError
from services.subscriptions.control import ControlView, Subscription, policy_id
from services.subscriptions.lifecycle import MOVES, Action, Actor, Standing, State, decide, shown_state

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
APPLICANT = Actor(Person("zhang", "张三", agency="market"), administrator=False)
OWNER = Actor(Person("li", "李四", department="health", approves=["issued", "revoked"]), administrator=False)
STRANGER = Actor(Person("wang", "王五", agency="police", department="tax", approves=["arrears"]), administrator=False)
ADMINISTRATOR = Actor(None, administrator=True)
GRANT = Standing("market", ["issued"], "draft", applied={"zhang"})
ALLOWED = {
    "applicant": {"edit", "submit", "terminate"},
    "owner": {"return", "approve", "suspend", "resume", "terminate"},
    "administrator": {"suspend", "resume", "terminate"},
    "stranger": set(),
}
PARTIES = {"applicant": APPLICANT, "owner": OWNER, "administrator": ADMINISTRATOR, "stranger": STRANGER}


@pytest.mark.parametrize(("action", "state"), list(product(get_args(Action), get_args(State))))
def test_each_action_is_possible_in_its_states_and_for_its_parties_alone(action: Action, state: State) -> None:
    """The state is looked at first, then who asks; what is possible leads where the table says."""
    now = NOW
    standing = replace(GRANT, state=state)
    if state == "expired":
        standing = replace(GRANT, state="active", valid_until=NOW - DAY)
    if state == "approved":
        standing = replace(GRANT, state="active", valid_from=NOW + DAY)
    for name, actor in PARTIES.items():
        if state not in MOVES[action].from_:
            with pytest.raises(ConflictError, match=state):
                decide(action, standing, actor, now)
        elif action not in ALLOWED[name]:
            with pytest.raises(ForbiddenError, match=actor.name):
                decide(action, standing, actor, now)
        else:
            assert decide(action, standing, actor, now) == MOVES[action].to


def test_whoever_applied_cannot_approve() -> None:
    """Not even with the owner's right: somebody of a body that is both agency and department."""
    both = Actor(Person("zhao", "赵六", agency="market", department="health", approves=["issued"]), administrator=False)
    assert decide("approve", replace(GRANT, state="submitted"), both, NOW) == "active"
    with pytest.raises(ForbiddenError, match="another person"):
        decide("approve", replace(GRANT, state="submitted", applied={"zhang", "zhao"}), both, NOW)
    entered = Actor(both.person, administrator=True)
    with pytest.raises(ForbiddenError, match="another person"):
        decide("approve", replace(GRANT, state="submitted", applied={"zhao"}), entered, NOW)


def test_an_owner_decides_on_a_grant_only_with_the_right_for_all_of_its_types() -> None:
    """A grant for types of two owners must be parted."""
    assert decide("approve", Standing("market", ["issued", "revoked"], "submitted"), OWNER, NOW) == "active"
    with pytest.raises(ForbiddenError, match="all of its types"):
        decide("approve", Standing("market", ["issued", "arrears"], "submitted"), OWNER, NOW)


def test_what_time_does_needs_nobody() -> None:
    """An approved grant becomes active, and one past its time expired; a suspended one expires too."""
    begins, ends = NOW + DAY, NOW + 2 * DAY
    at = [shown_state("active", begins, ends, NOW + timedelta(hours=h)) for h in (0, 24, 47, 48)]
    assert at == ["approved", "active", "active", "expired"]
    assert shown_state("suspended", None, ends, ends) == "expired"
    assert shown_state("terminated", None, ends, ends) == "terminated"


@pytest.mark.parametrize("action", ["submit", "approve"])
def test_a_grant_past_its_time_is_neither_submitted_nor_approved(action: Action) -> None:
    """The field is named."""
    state: State = "draft" if action == "submit" else "submitted"
    actor = APPLICANT if action == "submit" else OWNER
    with pytest.raises(InvalidError, match="/valid_until"):
        decide(action, replace(GRANT, state=state, valid_until=NOW), actor, NOW)


@pytest.mark.parametrize("state", ["active", "suspended", "terminated"])
def test_a_line_is_held_by_its_agencys_suspension_alone(state: str) -> None:
    """Whatever becomes of grants, follow-ups are owed; what came by stopped grants is kept back one by one."""
    view = ControlView()
    view.apply("agency/a", b'{"id": "a", "name": "a", "division": "510000", "sink": "x"}')
    view.apply("subscription/s", f'{{"id": "s", "agency": "a", "types": [], "state": "{state}"}}'.encode())
    assert view.held("a") is None
    view.apply("agency/a", b'{"id": "a", "name": "a", "division": "510000", "sink": "x", "state": "suspended"}')
    assert "suspended" in (view.held("a") or "")
    assert view.held("b") is not None


def test_a_policys_id_is_its_contents() -> None:
    """Order and empty lists don't matter; what is granted does."""
    assert policy_id({"levels": ["public", "internal"], "mask": []}) == policy_id({"levels": ["internal", "public"]})
    assert policy_id({"levels": []}) != policy_id({"levels": ["public"]})
    assert policy_id({"levels": [], "mask": ["a"]}) != policy_id({"levels": [], "drop": ["a"]})


def test_a_record_of_a_later_version_is_read_as_far_as_it_is_known() -> None:
    """A field that this version does not know stops nobody, and positions follow the topic's offsets."""
    view = ControlView()
    view.take("subscription/s", b'{"id": "s", "agency": "a", "types": ["t"], "colour": "red"}', 41)
    view.take("policy/p", b'{"levels": ["public"]}', 42)
    found = view.snapshot()
    assert found.subscriptions == {"s": Subscription("s", "a", ["t"])}
    assert (found.policies["p"], found.position) == ({"levels": ["public"]}, 43)
