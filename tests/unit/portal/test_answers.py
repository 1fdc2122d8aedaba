"""Who is told over the API why an agency got an event or not."""

from __future__ import annotations

from typing import Any, cast

import pytest

from services.identity.people import Person
from services.portal.answers import Answers
from services.portal.explaining import Explaining
from services.portal.subscriptions import Grants
from services.portal.tracking import Tracking
from services.portal.trying import Trying
from services.runtime.errors import ForbiddenError, NotFoundError
from services.subscriptions.lifecycle import Actor

ISSUED = "cn.gov.sc.health.medical-ad-certificate.issued"
ZHANG = Actor(Person("zhang", "张三", agency="market"), administrator=False)
LI = Actor(Person("li", "李四", department="health", approves=[ISSUED]), administrator=False)
OPERATOR = Actor(None, administrator=True)


class ToldExplaining:
    """Explains one event, and knows of no other."""

    def __init__(self, verdict: str = "routed", *, got: bool = False) -> None:
        self._found = {
            "event": {"type": ISSUED},
            "verdict": verdict,
            "reason": "联系人 张某",
            "got": [1] if got else [],
        }

    def explain(self, event_id: str, *_asked: object) -> dict[str, Any]:
        """Return what is told of it; raises NotFoundError."""
        if event_id != "e1":
            raise NotFoundError(f"台账上没有事件 {event_id}")
        return dict(self._found)


class KnownGrants:
    """Grants of one agency on these types."""

    def __init__(self, *types: str) -> None:
        self.repository = self
        self._types = types

    def list(self) -> list[dict[str, Any]]:
        """Return them as rows."""
        return [{"agency": "market", "forward_to": [], "types": list(self._types)}]


def asked(who: Actor, explaining: ToldExplaining, *types: str, event: str = "e1") -> dict[str, Any]:
    """Ask why the market has an event or not."""
    answers = Answers(
        cast(Grants, KnownGrants(*types)), cast(Explaining, explaining), cast(Trying, None), cast(Tracking, None)
    )
    return answers.explain(who, event, "market", None)


def test_an_agency_is_told_of_what_it_got_or_applied_for_and_of_nothing_else() -> None:
    """An event of another type is to it as one that is not there; the owner and the administrator are told."""
    for who in (LI, OPERATOR):
        assert asked(who, ToldExplaining())["verdict"] == "routed"
    assert asked(ZHANG, ToldExplaining(), ISSUED)["verdict"] == "routed"
    assert asked(ZHANG, ToldExplaining(got=True))["verdict"] == "routed"
    said = []
    for event in ("e1", "e2"):
        with pytest.raises(NotFoundError) as refused:
            asked(ZHANG, ToldExplaining(), "another.type", event=event)
        said.append(str(refused.value).replace(event, ""))
    assert said[0] == said[1]
    with pytest.raises(ForbiddenError):
        asked(Actor(Person("wang", "王五", agency="tax"), administrator=False), ToldExplaining(), ISSUED)


def test_what_is_wrong_with_an_event_is_not_told_to_who_did_not_get_it() -> None:
    """A dead letter's reason is for its publisher and for who operates."""
    dead = ToldExplaining("deadletter")
    assert [asked(who, dead, ISSUED)["reason"] for who in (ZHANG, LI, OPERATOR)] == [None, "联系人 张某", "联系人 张某"]
