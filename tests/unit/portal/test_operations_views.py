"""What the pages of operations show, from values: the drawing, the chart, how agencies stand, what is kept and live."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest

from services.delivery.lag import Deadline, GroupLag, ProbeLag, Snapshot, at_least
from services.ledger.flowing import Flow, Slot
from services.portal.watching import BEHIND_S, STALE_S, NoSnapshotError, Reach, Seen, Watch
from services.portal.web.alerts import SEVERITIES
from services.portal.web.chart import chart
from services.portal.web.events import timed
from services.portal.web.flow import WIDE, WIDEST, Paper, Party, draw
from services.portal.web.live import Shared, Streams, message
from services.portal.web.overview import NOT_READ
from services.portal.web.plain_words import in_language
from services.portal.web.reasons import why
from services.portal.web.rendering import FOLDER, Statics, _environment, instant
from services.portal.web.standing import Standing, ranked, standing, totals
from services.runtime.alerts import SEVERITY_NAMES
from services.runtime.errors import NotFoundError
from tests.unit.portal.test_reasons import AT, FINE, LAG, ROW, part, story

WAITING = '{% import "macros.html" as ui with context %}{{ ui.waiting(of) }}'


class SetClock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.at = AT

    def now(self) -> datetime:
        """Return the time."""
        return self.at

    def monotonic(self) -> float:
        """Return it in seconds."""
        return self.at.timestamp()


ENVIRONMENT = _environment(Statics(FOLDER / "static"), SetClock())


@dataclass(frozen=True)
class Viewing:
    """Whose side somebody sees."""

    agency: str | None


def test_a_line_is_as_wide_as_its_share_and_looks_as_its_agency_stands() -> None:
    """The busiest is the widest; a pair without events has no line."""
    flows = [Flow("h", "a", 100, 90, 0), Flow("h", "b", 25, 0, 0), Flow("i", "b", 0, 3, 0)]
    found = draw(flows, [Party("h", "卫健"), Party("i", "医保")], [Party("a", "甲"), Party("b", "乙", "bad")])
    assert [(one.agency, one.look, one.width) for one in found.lines] == [("b", "bad", 7.8), ("a", "ok", WIDEST)]
    assert [(one.id, one.shape, one.number) for one in found.agencies] == [("a", "circle", 100), ("b", "square", 25)]


def test_of_hundreds_who_is_in_trouble_has_a_place_and_the_rest_share_one() -> None:
    """The drawing stays readable with 500 agencies, and counts all of them."""
    agencies = [Party(f"a{n:03}", f"单位{n}", "bad" if n == 499 else "ok") for n in range(500)]
    flows = [Flow("h", one.id, 1, 1, 0) for one in agencies]
    found = draw(flows, [Party("h", "卫健")], agencies, WIDE)
    assert len(found.agencies) == WIDE.rows
    assert "a499" in {one.id for one in found.agencies}
    assert sum(one.number for one in found.agencies) == 500
    assert found.agencies[-1].others == 500 - WIDE.rows + 1


def test_a_long_name_is_cut_by_the_room_that_its_letters_take() -> None:
    """Chinese letters take twice the room."""
    paper = Paper(letters=4)
    found = draw([], [Party("h", "四川省卫生健康委员会"), Party("i", "health")], [], paper)
    assert [one.short for one in found.sources] == ["四川省…", "health"]


def test_a_chart_has_a_bar_for_each_minute_and_none_higher_than_its_room() -> None:
    """Parked events stand on the delivered ones."""
    found = chart([Slot(AT + timedelta(minutes=2), 8, 2), Slot(AT + timedelta(minutes=4), 5, 0)], AT, 5, 60)
    assert [bar.delivered for bar in found.bars] == [0, 0, 8, 0, 5]
    highest = found.bars[2]
    assert highest.parked_top + highest.parked_height == pytest.approx(highest.top, abs=0.2)
    assert highest.parked_top >= 0
    assert (found.most, found.total) == (10, 13)


def test_who_needs_help_comes_first_and_what_was_decided_goes_before_what_was_measured() -> None:
    """A paused agency is paused, whatever its line does."""
    held = standing({**ROW, "id": "held"}, replace(LAG, state="held", oldest_age_s=60.0))
    older = standing({**ROW, "id": "older"}, replace(LAG, state="held", oldest_age_s=600.0))
    paused = standing({**ROW, "id": "paused", "state": "suspended"}, replace(LAG, state="held"))
    unseen = standing({**ROW, "id": "unseen"}, None)
    fine = standing(ROW, LAG)
    found = ranked([fine, unseen, paused, held, older])
    assert [one.id for one in found] == ["older", "held", "paused", "unseen", "market"]
    assert [one.state for one in found] == ["held", "held", "suspended", "unseen", "ok"]
    assert (totals(found).troubled, totals(found).oldest_s) == (2, 600.0)


def test_a_slow_agency_is_counted_among_those_that_need_help_as_it_is_listed() -> None:
    """Nothing says 都正常 over a list of it."""
    slow = standing({**ROW, "id": "slow"}, replace(LAG, state="slow"))
    found = totals([standing(ROW, LAG), slow])
    assert (slow.troubled, found.troubled, found.bad) == (True, 1, 0)


def test_backlogs_that_were_not_counted_to_their_end_are_summed_to_a_lower_bound() -> None:
    """The sum is as exact as the least exact of them, and every page says so by ≥."""
    capped = standing(ROW, replace(LAG, backlog=5000, backlog_exact=False))
    for found, shown in (([capped, FINE], "≥ 5,003"), ([FINE], "3")):
        assert ENVIRONMENT.from_string(WAITING).render(language="zh", of=totals(found)) == shown
    assert ENVIRONMENT.from_string(WAITING).render(language="zh", of=capped.lag) == "≥ 5,000"
    owed = why(story(part("pending")), "market", capped, None)
    assert (owed.said.values["n"], at_least(5000, exact=False), at_least(3, exact=True)) == ("≥ 5,000", "≥ 5,000", "3")


def test_each_step_of_an_event_says_how_long_it_took() -> None:
    """Agencies go side by side: an agency's first step follows the routing, and not what another got before."""
    at = {name: AT + timedelta(milliseconds=ms) for name, ms in (("a", 0), ("b", 7), ("c", 30), ("d", 900))}
    steps = [("routed", None, "a"), ("delivered", "x", "b"), ("attempted", "y", "c"), ("delivered", "y", "d")]
    found = timed([{"what": what, "agency": agency, "at": at[when]} for what, agency, when in steps])
    assert [one["step_s"] for one in found] == [None, 0.007, 0.03, 0.87]
    assert "08:00:00.007" in instant(at["b"]).replace("16:00", "08:00")


def live_part(shown: Standing) -> str:
    """Return the live part of an agency's page."""
    values: dict[str, object] = {
        "seen": Seen(),
        "stale": False,
        "chart_held": None,
        "uncounted": NOT_READ,
        "said": in_language,
    }
    values |= {"viewer": Viewing(None), "now": AT, "slot_s": 60, "standing": shown}
    return ENVIRONMENT.get_template("agencies/_live.html").render(language="zh", **values)


def test_a_hold_is_told_in_nobodys_words_but_whose_they_are() -> None:
    """A suspension may be anybody's or follow a 410; what the pusher says of a line is no receiver's wording."""
    lag = replace(LAG, state="held", held_since=AT.isoformat(), held_why="接收单位已暂停 (the agency is suspended)")
    paused = live_part(standing({**ROW, "state": "suspended"}, replace(lag, held_decided=True)))
    assert ("410" in paused, "接收单位已暂停" in paused) == (True, False)
    away = live_part(standing(ROW, replace(lag, held_why="Cannot connect to host")))
    assert ("原因：<q>Cannot connect to host" in away, "原话" in paused + away) == (True, False)


@pytest.mark.parametrize(
    ("deadline", "shown"),
    [
        (Deadline((AT - timedelta(days=1)).isoformat(), 37, 37, 1.0), "100.0 % 近 24 小时 37/37 件"),
        (Deadline((AT - timedelta(hours=3)).isoformat(), 3, 4, 0.75, 1), "75.0 % 近 3 小时 3/4 件 1 件已逾期"),
        (Deadline(AT.isoformat()), ""),
    ],
    ids=["a day", "less", "none"],
)
def test_the_share_within_the_legal_limit_says_of_what_time_and_of_how_many(deadline: Deadline, shown: str) -> None:
    """A share of none is not shown."""
    text = live_part(standing(ROW, replace(LAG, deadline=deadline)))
    card = re.search(r"法定时限内送达</dt><dd>(.*?)</dd>", text, re.DOTALL)
    assert " ".join(re.sub(r"<[^>]+>", " ", card[1]).split() if card else ()) == shown


def watched(*found: Snapshot | None) -> tuple[Watch, SetClock]:
    """Return a watch over a monitor that gives these, one after another; None: it does not answer."""
    clock, answers = SetClock(), iter(found)

    def fetch() -> Snapshot:
        one = next(answers)
        if one is None:
            raise NoSnapshotError("监视进程没有应答 (the monitor does not answer)")
        return one

    return Watch(fetch, clock), clock


def test_the_last_snapshot_stands_and_is_stale_once_it_is_old() -> None:
    """Since when and why no newer one came is told."""
    snapshot = Snapshot(AT.isoformat(), 300, [LAG], [], ProbeLag("off", AT.isoformat()))
    watch, clock = watched(snapshot, None, None)
    watch.look()
    assert (watch.seen.agency("market"), watch.seen.stale(clock.now())) == (LAG, False)
    clock.at += timedelta(seconds=STALE_S + 1)
    watch.look()
    missed_at = clock.at
    clock.at += timedelta(seconds=2)
    watch.look()
    seen = watch.seen
    assert (seen.agency("market"), seen.stale(clock.now()), seen.since) == (LAG, True, missed_at)
    assert "没有应答" in seen.why


def test_before_the_first_snapshot_nothing_is_known() -> None:
    """That is stale too."""
    watch, clock = watched(None)
    watch.look()
    assert (watch.seen.snapshot, watch.seen.stale(clock.now()), watch.seen.agency("market")) == (None, True, None)


def ledger(topic: str, lag: int, delay_s: float) -> GroupLag:
    """Return how the ledger stands to one topic."""
    return GroupLag("ledger", topic, lag, "stalled" if lag else "ok", AT.isoformat(), delay_s, 1)


def test_how_far_the_ledger_reaches_is_told_as_soon_as_it_is_behind() -> None:
    """What is behind on any topic counts; what is on its way is no news, but nothing is missing only at the end."""
    caught_up = Snapshot(AT.isoformat(), 300, [], [ledger("events", 0, 0.0)], ProbeLag("off", AT.isoformat()))
    on_its_way = replace(caught_up, groups=[ledger("events", 4, BEHIND_S / 2)])
    behind = replace(caught_up, groups=[ledger("events", 4, 2.0), ledger("receipts", 3, 90.0), ledger("x", 0, 99.0)])
    unknown = replace(caught_up, groups=[replace(ledger("events", 0, 0.0), group="another")])
    watch, clock = watched(None, unknown, caught_up, on_its_way, behind)
    seen = []
    for _ in range(5):
        watch.look()
        seen.append(watch.seen.reach(clock.now()))
    assert [(one.behind, one.whole) for one in seen] == [
        (True, False),
        (True, False),
        (False, True),
        (False, False),
        (True, False),
    ]
    assert seen[4] == Reach(AT, AT - timedelta(seconds=90), 7, stale=False)
    clock.at = AT + timedelta(seconds=STALE_S + 1)
    assert watch.seen.reach(clock.now()).stale


def test_live_streams_are_bounded_for_all_and_for_each_session() -> None:
    """One browser with many tabs leaves room for the others."""
    streams = Streams(threading.Event(), SetClock(), most=3, most_of_one=2)
    opened: list[Callable[..., object]] = []
    for _ in range(2):
        stream = streams.opened("a")
        stream.__enter__()
        opened.append(stream.__exit__)
    assert (streams.full("a"), streams.full("b")) == (True, False)
    with streams.opened("b"):
        assert streams.full("c")
    opened[0](None, None, None)
    assert not streams.full("a")


def test_who_looks_at_the_same_is_shown_one_rendering_for_a_second() -> None:
    """Two hundred open overviews cost no more than one; another side or language is another part."""
    clock, parts = SetClock(), iter("abcd")
    shared = Shared(clock)
    seen = [shared.get(key, lambda: next(parts)) for key in (("all", "zh"), ("all", "zh"), ("all", "en"))]
    clock.at += timedelta(seconds=1)
    assert (seen, shared.get(("all", "zh"), lambda: next(parts))) == (["a", "a", "b"], "c")


def test_nobody_waits_for_a_part_that_another_renders() -> None:
    """Others see the last one meanwhile, none where there is none; other parts are rendered all the same."""
    clock, go_on, rendering = SetClock(), threading.Event(), threading.Semaphore(0)
    shared = Shared(clock)

    def slowly() -> str:
        rendering.release()
        return "new" if go_on.wait(20) else "never"

    shared.get("known", lambda: "old")
    clock.at += timedelta(seconds=2)
    with ThreadPoolExecutor(2) as renderers:
        found = [renderers.submit(shared.get, key, slowly) for key in ("known", "first")]
        assert all(rendering.acquire(timeout=10) for _ in found)
        try:
            assert [shared.get(key, lambda: "x") for key in ("known", "first", "other")] == ["old", None, "x"]
            clock.at += timedelta(minutes=1)
            assert shared.get("known", lambda: "x") is None
        finally:
            go_on.set()
        assert [one.result(10) for one in found] == ["new", "new"]
    with pytest.raises(NotFoundError):
        shared.get("gone", gone)
    assert shared.get("gone", lambda: "there") == "there"


def gone() -> str:
    """Fail as the rendering of what is not there does."""
    raise NotFoundError("gone")


def test_a_part_of_many_lines_is_one_message() -> None:
    """As the format of event streams asks."""
    assert message("<p>\n</p>") == "data: <p>\ndata: </p>\n\n"


@pytest.mark.parametrize(
    ("text", "zh", "en"),
    [
        ("监视进程没有应答 (the monitor does not answer)", "监视进程没有应答", "the monitor does not answer"),
        ("HTTP 503", "HTTP 503", "HTTP 503"),
        (
            "连接不上 10.0.0.8:443，没有程序在听 (can't connect to 10.0.0.8:443: Connection refused)",
            "连接不上 10.0.0.8:443，没有程序在听",
            "can't connect to 10.0.0.8:443: Connection refused",
        ),
        ("未送达 (not delivered)：HTTP 503", "未送达：HTTP 503", "not delivered：HTTP 503"),
        ("没有（括号里的中文）", "没有（括号里的中文）", "没有（括号里的中文）"),
    ],
)
def test_a_message_in_both_languages_is_read_in_one(text: str, zh: str, en: str) -> None:
    """What has no English half stays whole."""
    assert (in_language("zh", text), in_language("en", text)) == (zh, en)


def test_a_check_of_another_address_is_marked_on_the_page_too() -> None:
    """So that nobody takes it for the registered one's; what was kept before says nothing of it."""
    template = ENVIRONMENT.get_template("agencies/_evidence.html")
    for document, marked in (({}, False), ({"warnings": []}, False), ({"warnings": ["…"]}, True)):
        kept = {"passed": True, "recorded_at": AT, "digest": "ab" * 32, "document": document}
        shown = template.render(language="zh", now=AT, evidence=[kept])
        assert ("通过" in shown, "检查的不是登记的地址" in shown) == (True, marked)


def test_how_grave_an_alert_is_is_called_the_same_on_pages_and_elsewhere() -> None:
    """Who reads 紧急 in a mail finds it on the page."""
    assert {severity: str(name) for severity, (_, name) in SEVERITIES.items()} == SEVERITY_NAMES
