"""Why an agency has an event or not, in plain words, with the next step."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from typing import Any, Literal

import pytest

from services.delivery.lag import AgencyLag, Deadline, Latencies
from services.portal.web.reasons import Reader, Reason, for_reader, why
from services.portal.web.standing import Standing, standing
from services.portal.web.wording import say

AT = datetime(2026, 11, 25, 8, 0, tzinfo=UTC)
ROW = {"id": "market", "name": "省市场监管局", "state": "active", "verified_at": AT}
LAG = AgencyLag(
    agency="market",
    channel="webhook",
    state="ok",
    state_since=AT.isoformat(),
    oldest_age_s=None,
    oldest_published_at=None,
    backlog=3,
    backlog_exact=True,
    held_since=None,
    held_why=None,
    held_decided=False,
    latencies=Latencies(),
    channels=(),
    deadline=Deadline(AT.isoformat()),
)
FINE = standing(ROW, LAG)


def story(*agencies: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return an event's story as the ledger tells it."""
    told = {"id": "e1", "type": "t", "source": "urn:h", "subject": "k", "division": "510000", "published_at": AT}
    return {**told, "verdict": "routed", "reason": None, "agencies": list(agencies), **more}


def part(state: str, *receipts: dict[str, Any]) -> dict[str, Any]:
    """Return one agency's part of it."""
    delivered = AT if state in {"delivered", "accepted", "rejected"} else None
    return {"agency": "market", "state": state, "routed_at": AT, "delivered_at": delivered, "receipts": list(receipts)}


def receipt(outcome: str, reason: str | None = None, status: int | None = None) -> dict[str, Any]:
    """Return a receipt."""
    return {"outcome": outcome, "reason": reason, "status": status, "at": AT}


def grant(name: str, **more: Any) -> dict[str, Any]:
    """Return what a grant says of an event: everything holds but what is told otherwise."""
    names = ("type", "state", "sharing", "receivers", "division", "agency", "holder")
    rights = [{"right": one, "holds": one not in more, "said": more.get(one, "")} for one in names]
    filters = [denied(one) for one in more.get("filters", ())]
    matches = not filters and all(right["holds"] for right in rights)
    return {"subscription": name, "version": 3, "matches": matches, "rights": rights, "filters": filters}


def denied(expression: dict[str, Any]) -> dict[str, Any]:
    """Return what is said of a filter that does not hold, nor any within it."""
    inner = [denied(one) for one in expression.get("all", ())]
    return {"filter": expression, "holds": False} | ({"inner": inner} if inner else {})


def explanation(then: Any = (), now: Any = (), **more: Any) -> dict[str, Any]:
    """Return what the grants say."""
    return {"withheld": [], "kept": True, "then": list(then), "now": list(now), **more}


def said(reason: Reason) -> str:
    """Return the sentence that people read."""
    return unescape(say("zh", reason.said.text, **reason.said.values))


@pytest.mark.parametrize(
    ("row", "lag", "words", "step"),
    [
        ({"state": "suspended"}, {}, "推送已被暂停", "/agencies/market"),
        ({"verified_at": None}, {}, "还没有答对签名质询", "/agencies/market"),
        (
            {},
            {"state": "held", "held_since": AT.isoformat(), "held_why": "HTTP 503"},
            "没有正常应答",
            "/agencies/market",
        ),
        ({}, {"state": "stopped"}, "没有进程在为它投递", "/"),
        ({}, {"channel": "pull"}, "没有来取，或取了没有回执", "/agencies/market"),
        ({}, {}, "队列现有 3 件", "/agencies/market"),
    ],
    ids=["paused", "unverified", "held", "stopped", "pulls", "queued"],
)
def test_what_is_owed_but_not_delivered_says_what_keeps_it(
    row: dict[str, Any], lag: dict[str, Any], words: str, step: str
) -> None:
    """The line's own state is the reason, with the page where something can be done first."""
    found = why(story(part("pending")), "market", standing({**ROW, **row}, replace(LAG, **lag)), None)
    assert words in said(found)
    assert found.steps[0].href == step


def test_a_held_line_says_since_when_and_in_the_receivers_words() -> None:
    """Operators call the agency with these words."""
    lag = replace(LAG, state="held", held_since=AT.isoformat(), held_why="HTTP 503")
    found = why(story(part("pending")), "market", standing(ROW, lag), None)
    assert (found.since, found.words, found.look) == (AT, "HTTP 503", "bad")


def test_a_parked_event_says_what_the_receiver_said() -> None:
    """The newest refusal counts, and the next step is the parked event."""
    refused = part("parked", receipt("parked", "HTTP 400", 400), receipt("parked", "信用代码不符", 422))
    found = why(story(refused), "market", FINE, None)
    assert ("422" in said(found), found.words) == (True, "信用代码不符")
    assert found.steps[0].href == "/parked?agency=market"


@pytest.mark.parametrize(
    ("state", "words"), [("delivered", "还没有提交业务回执"), ("accepted", "已确认接收"), ("rejected", "拒收")]
)
def test_who_has_it_is_told_so(state: str, words: str) -> None:
    """No reason is made up for what has arrived."""
    found = why(story(part(state, receipt(state, "重复"))), "market", FINE, None)
    assert (found.kind, words in said(found)) == ("got", True)


@pytest.mark.parametrize(
    ("verdict", "words"), [(None, "路由还没有读到它"), ("deadletter", "进了死信"), ("conflict", "先到的有效")]
)
def test_what_was_not_routed_says_so_for_everybody(verdict: str | None, words: str) -> None:
    """Whoever asks: nobody got it."""
    found = why(story(verdict=verdict, reason="坏"), "market", FINE, None)
    assert words in said(found)
    assert found.steps


@pytest.mark.parametrize(
    ("lacks", "words"),
    [
        ({"type": "other"}, "没有这个事件类型"),
        ({"state": "suspended"}, "订阅已被暂停"),
        ({"state": "expired"}, "订阅已经到期"),
        ({"sharing": "none"}, "不予共享"),
        ({"receivers": "a,b"}, "指明了接收单位"),
        ({"division": "510000 ∈ 5101"}, "510000 四川省"),
        ({"holder": "province"}, "没有允许转给它"),
        (
            {"filters": [{"exact": {"division": "510100"}}]},
            "要求 行政区划 division 等于 510100，这一件是 510000 四川省",
        ),
        ({"filters": [{"all": [{"prefix": {"source": "urn:x"}}]}]}, "以 urn:x 开头，这一件是 urn:h"),
        ({"filters": [{"not": {"exact": {"type": "t"}}}]}, 'not {"exact": {"type": "t"}}'),
        ({"filters": [{"cel": "data.beds > 10"}]}, "data.beds > 10"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else None,
)
def test_a_grant_that_does_not_match_says_which_part_of_it_does_not_hold(lacks: dict[str, Any], words: str) -> None:
    """In words, with the values on both sides where there are any."""
    found = why(story(), "market", FINE, explanation([grant("g1", **lacks)], [grant("g1", **lacks)]))
    assert words in said(found)
    assert found.steps[0].href == "/subscriptions/g1"


def test_of_several_grants_the_nearest_is_explained() -> None:
    """One for other types altogether tells nothing."""
    far, near = grant("far", type="x"), grant("near", state="expired")
    assert why(story(), "market", FINE, explanation([far, near])).steps[0].href == "/subscriptions/near"


def test_a_grant_that_came_later_is_told_apart_from_none() -> None:
    """The one needs a backfill, the other an application."""
    later = why(story(), "market", FINE, explanation([], [grant("g1")]))
    none = why(story(), "market", FINE, explanation())
    gone = why(story(), "market", FINE, explanation(kept=False))
    assert ("后来批准" in said(later), "没有任何订阅" in said(none), "保存期" in said(gone)) == (True, True, True)


def test_what_was_withheld_says_why() -> None:
    """By the router's own words."""
    held = [{"subscription": "g1", "reason": "字段策略写不成", "config": 1}]
    assert why(story(), "market", FINE, explanation(withheld=held)).words == "字段策略写不成"


HELD = replace(LAG, state="held", held_since=AT.isoformat(), held_why="Cannot connect to host 10.1.2.3:80")
EVERY_WHY: dict[str, Reason] = {
    "line held": why(story(part("pending")), "market", standing(ROW, HELD), None),
    "paused": why(story(part("pending")), "market", standing({**ROW, "state": "suspended"}, LAG), None),
    "stopped": why(story(part("pending")), "market", standing(ROW, replace(LAG, state="stopped")), None),
    "queued": why(story(part("pending")), "market", FINE, None),
    "parked": why(story(part("parked", receipt("parked", "HTTP 422", 422))), "market", FINE, None),
    "not routed": why(story(verdict=None), "market", FINE, None),
    "dead letter": why(story(verdict="deadletter", reason="张某"), "market", FINE, None),
    "filter": why(story(), "market", FINE, explanation([grant("g1", state="expired")])),
    "no grant": why(story(), "market", FINE, explanation()),
    "withheld": why(
        story(), "market", FINE, explanation(withheld=[{"subscription": "g1, g2", "reason": "r", "config": 1}])
    ),
}
CLOSED = {"publisher": ("/agencies/", "/parked", "/alerts"), "agency": ("/dead-letters",)}


@pytest.mark.parametrize("name", EVERY_WHY)
@pytest.mark.parametrize("kind", ["publisher", "agency"])
def test_every_step_leads_its_reader_somewhere(name: str, kind: Literal["publisher", "agency"]) -> None:
    """To no page that is refused to them, or has nothing for them; who has to do it is said where they have not."""
    back = "/events/one?id=e1" if kind == "publisher" else None
    for grants in ((), ("g1",)):
        told = for_reader(EVERY_WHY[name], Reader(kind, grants, back))
        hrefs = [step.href for step in told.steps]
        assert not [one for one in hrefs if one == "/" or one.startswith(CLOSED[kind])]
        assert not [one for one in hrefs if one.startswith("/subscriptions/") and one.rpartition("/")[2] not in grants]
        assert (back in hrefs) is (kind == "publisher")
        others = [one for one in told.more if "系统管理员" in one.text]
        assert bool(others) is not bool([one for one in hrefs if one != back])


def test_a_reader_is_told_no_words_that_are_not_for_them() -> None:
    """A publisher not where a receiver stands; an agency not what was wrong with an event that it did not get."""
    held, dead = EVERY_WHY["line held"], EVERY_WHY["dead letter"]
    words = [for_reader(one, Reader(kind, (), None)).words for one in (held, dead) for kind in ("publisher", "agency")]
    assert words == ["", held.words, dead.words, ""]
    assert for_reader(held, Reader()) is held


def test_nobody_is_to_do_anything_about_what_has_arrived() -> None:
    """There is nothing to be done, by others either."""
    got = why(story(part("delivered", receipt("delivered"))), "market", FINE, None)
    assert [for_reader(got, Reader(kind)).more for kind in ("publisher", "agency")] == [(), ()]


def test_an_agency_that_is_gone_is_no_riddle() -> None:
    """It was entitled, and is in no list any more."""
    none: Standing | None = None
    assert "不在名录" in said(why(story(part("pending")), "market", none, None))
