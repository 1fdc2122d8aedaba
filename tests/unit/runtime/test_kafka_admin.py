"""What the admin client makes of a broker that can't tell of a group: never that the group is empty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from services.runtime.errors import KafkaUnavailableError
from services.runtime.kafka.admin import KafkaPythonAdmin

REFUSED = "[Error 30] GroupAuthorizationFailedError: "
LOADING = "[Error 14] CoordinatorLoadInProgressError: "
ABSENT = "[Error 69] GroupIdNotFoundError: Group g not found."


class Client:
    """Describes every group by the next of these answers, as the library does: an error beside no members."""

    def __init__(self, *errors: str | None) -> None:
        self.errors = list(errors)

    def describe_groups(self, groups: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the next answer."""
        error = self.errors.pop(0)
        members = [{"member_id": "m", "member_assignment": b""}] if error is None else []
        described = {"error": error, "members": members, "group_state": "Stable" if error is None else ""}
        return dict.fromkeys(groups, described)


def admin(*errors: str | None) -> KafkaPythonAdmin:
    """Return an admin whose broker answers so."""
    return KafkaPythonAdmin(Client(*errors), None)


QUESTIONS: list[Callable[[KafkaPythonAdmin], object]] = [
    lambda one: one.group_members("g"),
    lambda one: one.groups_members(["f", "g"]),
    lambda one: one.group_assignment("g"),
    lambda one: one.evict_members("g"),
]


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("error", [REFUSED, "something new"])
def test_an_answer_that_is_an_error_is_raised(question: Callable[[KafkaPythonAdmin], object], error: str) -> None:
    """Taken for no members, it would have a feed pushed beside the agency's own clients."""
    with pytest.raises(KafkaUnavailableError):
        question(admin(error))


def test_a_coordinator_that_is_loading_is_asked_again_and_a_group_that_there_is_not_has_no_members() -> None:
    """The one soon can tell; the other is told of."""
    assert admin(LOADING, LOADING, None).groups_members(["f", "g"]) == {"f": 1, "g": 1}
    assert (admin(ABSENT).group_members("g"), admin(ABSENT).group_assignment("g")) == (0, set())
