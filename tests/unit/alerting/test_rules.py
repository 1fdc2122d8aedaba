"""Each rule on what it is for, and on what looks like it and is none."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import orjson
import pytest

from services.alerting import rules
from services.alerting.burn import Deliveries, Ledger
from services.alerting.ends import Seen, ending, ends_of
from services.alerting.feed import CLEARED, RAISED
from services.alerting.rules import EVERYBODY, Away, FollowUp, Objective, Volume, Waiting
from services.alerting.silences import Silence, is_about_somebody, silencing
from services.delivery.lag import (
    AgencyLag,
    Deadline,
    GroupLag,
    Latencies,
    OpenTransaction,
    ProbeLag,
    Snapshot,
    State,
)
from services.runtime.alerts import Alert, AlertKind
from services.subscriptions.control import ControlView
from tests.certificates import Authority

NOW = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)
AT = NOW.isoformat()
GOAL = Objective(0.999, 10, 300)
SOON, LATE, NEVER = NOW + timedelta(days=3), NOW + timedelta(days=20), NOW + timedelta(days=400)


def lag(agency: str = "market", **more: object) -> AgencyLag:
    """Return how an agency stands that keeps up."""
    calm = AgencyLag(agency, "webhook", "ok", AT, None, None, 0, True, None, None, False, Latencies(), [], Deadline(AT))
    return replace(calm, **more)


def snapshot(*agencies: AgencyLag, groups: tuple[GroupLag, ...] = (), probe: ProbeLag | None = None) -> Snapshot:
    """Return how everybody stands."""
    return Snapshot(AT, 900, agencies, groups, probe or ProbeLag("ok", AT), objective_s=10.0)


def group(state: State, name: str = "router", for_s: float = 60.0) -> GroupLag:
    """Return a group that has been in a state for so long."""
    return GroupLag(name, "events.health.v1", 5, state, (NOW - timedelta(seconds=for_s)).isoformat(), 3.0, 1)


def test_an_agency_that_gets_its_events_late_burns_and_so_do_all_together() -> None:
    """Counted from the monitor's totals, twice the same snapshot once; who is not named in one is not forgotten."""
    ledgers: dict[str, Ledger] = {}
    rules.count(snapshot(lag(taken_total=100, slow_total=0)), ledgers, NOW)
    assert rules.count(snapshot(lag(taken_total=200, slow_total=50)), ledgers, NOW) == ["market", EVERYBODY]
    found = rules.lagging(snapshot(lag()), ledgers, GOAL, NOW)
    assert [(one.kind, one.subject, one.weight) for one in found] == [
        (AlertKind.LAG_BURNING, "market", "critical"),
        (AlertKind.LAG_BURNING, EVERYBODY, "critical"),
    ]
    assert rules.count(snapshot(), ledgers, NOW) == []
    assert rules.lagging(snapshot(lag()), ledgers, GOAL, NOW) == found


def test_an_agency_that_does_not_come_is_behind_one_that_is_held_is_not() -> None:
    """The held one has an alert of its own."""
    behind = lag(oldest_age_s=400.0, backlog=3, channel="pull")
    ledgers = {"market": Ledger(), EVERYBODY: Ledger()}
    assert [one.kind for one in rules.lagging(snapshot(behind), ledgers, GOAL, NOW)] == [AlertKind.AGENCY_BEHIND]
    assert rules.lagging(snapshot(replace(behind, held_since=AT)), ledgers, GOAL, NOW) == []
    assert rules.lagging(snapshot(replace(behind, oldest_age_s=20.0)), ledgers, GOAL, NOW) == []


def test_a_backlog_beyond_the_objective_burns_unless_somebody_has_decided_to_hold_it() -> None:
    """Nothing delivered, many overdue."""
    ledgers = {"market": Ledger()}
    overdue = lag(oldest_age_s=60.0, backlog=50, held_since=AT)
    assert [one.kind for one in rules.lagging(snapshot(overdue), ledgers, GOAL, NOW)] == [AlertKind.LAG_BURNING]
    assert rules.lagging(snapshot(replace(overdue, held_decided=True)), ledgers, GOAL, NOW) == []
    ledgers["market"].add(NOW, Deliveries(1_000_000, 0))
    assert rules.lagging(snapshot(overdue), ledgers, GOAL, NOW) == []


def test_held_lines_stay_told_and_those_gone_until_they_flow() -> None:
    """Held by decision is no trouble, but 410 stays one until the line flows."""
    gone, told = (Alert(kind, "market", AT, "") for kind in (AlertKind.AGENCY_GONE, AlertKind.LINE_HELD))
    held, decided = lag(held_since=AT, held_why="HTTP 503"), lag(held_since=AT, held_why="暂停", held_decided=True)
    assert [one.kind for one in rules.held(snapshot(held), (), NOW)] == [AlertKind.LINE_HELD]
    assert rules.held(snapshot(decided), (), NOW) == []
    assert [one.kind for one in rules.held(snapshot(decided), [gone], NOW)] == [AlertKind.AGENCY_GONE]
    assert rules.held(snapshot(lag()), [gone], NOW) == []
    assert rules.held(snapshot(lag()), [told], NOW) == []
    assert rules.held(snapshot(lag(channel="table")), [told], NOW) == [told], "the table sink takes its own back"


def test_groups_in_trouble_are_told_once_each_with_the_gravest() -> None:
    """Stopped and stalled are critical, slow and rewound warnings, catching up nothing.

    Nobody is called at once for a group that was started anew, or that a busy machine kept waiting.
    """
    brief = [group("stalled", for_s=35), group("stopped", "ledger", for_s=59)]
    assert [(one.subject, one.weight) for one in rules.grouped(brief, NOW)] == [
        ("ledger", "warning"),
        ("router", "warning"),
    ]
    found = rules.grouped([group("slow"), group("stalled"), group("rewound", "ledger"), group("catching-up", "x")], NOW)
    assert [(one.subject, one.weight) for one in found] == [("ledger", "warning"), ("router", "critical")]


def test_a_topic_that_nobody_can_read_on_is_told_once_with_its_partitions() -> None:
    """However many of its partitions a transaction holds."""
    found = [OpenTransaction("ledger.routed", n, 7, 3, AT) for n in (2, 5)] + [OpenTransaction("feed.m", 0, 1, 1, AT)]
    alerts = rules.unreadable(found, NOW)
    assert [(one.subject, one.size, one.weight) for one in alerts] == [
        ("feed.m", 1, "critical"),
        ("ledger.routed", 2, "critical"),
    ]
    assert "分区 5 从偏移量 7 起 3 个" in alerts[1].detail
    assert rules.unreadable([], NOW) == []


@pytest.mark.parametrize(("state", "weight"), [("late", "warning"), ("lost", "critical"), ("refused", "critical")])
def test_the_probe_fails(state: str, weight: str) -> None:
    """Late is a warning: it came."""
    (found,) = rules.probed(ProbeLag(state, AT, "detail"), NOW)
    assert found.weight == weight
    assert rules.probed(ProbeLag("starting", AT), NOW) == []


def test_what_is_parked_has_the_key_that_the_pusher_gives_it() -> None:
    """So that one is not told of twice."""
    waiting = Waiting("market", "17", "e1", AT, "HTTP 422", decodable=True)
    (one,) = rules.parked([waiting])
    assert one.key == Alert(AlertKind.EVENT_PARKED, "market", AT, "", labels={"cursor": "17", "event_id": "e1"}).key
    (other,) = rules.parked([replace(waiting, decodable=False)])
    assert other.kind == AlertKind.EVENT_UNDECODABLE


def test_dead_letters_disks_and_servers() -> None:
    """Each by its subject and how bad it is."""
    assert [(one.subject, one.size) for one in rules.dead({"router": 3, "pusher": 0}, NOW)] == [("router", 3)]
    volumes = [Volume("/data", 96, 100), Volume("pg", 93, 100), Volume("x", 50, 100), Volume("over", 110, 100)]
    found = rules.filling(volumes, 10, 5, NOW)
    assert [(one.subject, one.weight) for one in found] == [
        ("/data", "critical"),
        ("pg", "warning"),
        ("over", "critical"),
    ]
    (away,) = rules.away([Away("postgresql", NOW, "refused")], NOW)
    assert "2026-01-05 10:00:00" in away.detail


def test_follow_ups_near_and_past_their_deadline_in_working_days() -> None:
    """Monday's horizon of one working day is Tuesday; a Friday's is the next Monday."""
    monday = [FollowUp("a", "market", date(2026, 1, 6)), FollowUp("b", "market", date(2026, 1, 7))]
    (found,) = rules.overdue(monday, 1, NOW)
    assert (found.size, found.weight) == (1, "warning")
    (late,) = rules.overdue([FollowUp("a", "market", date(2026, 1, 4)), *monday], 1, NOW)
    assert (late.size, late.weight) == (2, "critical")
    friday = datetime(2026, 1, 9, 2, 0, tzinfo=UTC)
    assert rules.overdue([FollowUp("a", "market", date(2026, 1, 12))], 1, friday)[0].weight == "warning"
    assert rules.overdue([FollowUp("a", "market", date(2026, 1, 13))], 1, friday) == []


def view(**entries: object) -> ControlView:
    """Return a configuration of these control records; ``__`` stands for a slash."""
    found = ControlView()
    for name, entry in entries.items():
        assert found.apply(name.replace("__", "/"), orjson.dumps(entry))
    return found


def agency(keys: list[datetime | None], **delivery: object) -> dict[str, object]:
    """Return an agency's control record."""
    held = [{"id": f"k{n}", "sealed": "x", "expires_at": at.isoformat() if at else None} for n, at in enumerate(keys)]
    return {
        "id": "market",
        "name": "m",
        "division": "510000",
        "sink": "https://receiver.example/x",
        "keys": held,
        "delivery": delivery,
    }


def found_ends(held: ControlView, seen: tuple[Seen, ...] = ()) -> list[tuple[AlertKind, str, str]]:
    """Return what ends within a month: kind, name and severity."""
    ends = ends_of(held, seen, lambda sealed: sealed, NOW)
    return [(one.kind, one.labels["of"], one.weight) for one in ending(ends, NOW, 30, 7)]


def test_a_key_that_another_outlives_is_no_end() -> None:
    """Rotation gives the old key an end; only the last one's end is one."""
    assert found_ends(view(agency__market=agency([SOON, None]))) == []
    assert found_ends(view(agency__market=agency([SOON, LATE]))) == [(AlertKind.KEY_ENDING, "k1", "warning")]
    assert found_ends(view(agency__market=agency([SOON]))) == [(AlertKind.KEY_ENDING, "k0", "critical")]
    assert found_ends(view(agency__market=agency([NOW - timedelta(days=1)])))[0][2] == "critical"
    department = {"id": "d", "name": "d", "source": "urn:d", "types": [], "keys": [{"id": "p", "digest": "x"}]}
    department["keys"][0]["expires_at"] = SOON.isoformat()
    assert found_ends(view(department__d=department)) == [(AlertKind.KEY_ENDING, "p", "critical")]


def test_certificates_and_tokens_in_delivery_settings_end() -> None:
    """A client certificate, an authority's, a receiver's as it was seen, and a JWT; a plain token does not."""
    issued = Authority("clients").issue("us", lasts=timedelta(days=3000), client=True)
    held = agency([None], tls={"certificate": issued.certificate, "private_key": "sealed", "ca": Authority("x").pem})
    names = [name for _, name, _ in found_ends(view(agency__market=held))]
    assert "delivery.tls.certificate" not in names
    claims = base64.urlsafe_b64encode(json.dumps({"exp": SOON.timestamp()}).encode()).decode().rstrip("=")
    token = agency([None], auth={"kind": "bearer", "token": f"e30.{claims}.c2ln"})
    assert found_ends(view(agency__market=token)) == [(AlertKind.KEY_ENDING, "delivery.auth.token", "critical")]
    assert found_ends(view(agency__market=agency([None], auth={"kind": "bearer", "token": "plain.old.token"}))) == []
    seen = Seen("market", SOON, "CN=receiver")
    expected = [(AlertKind.CERTIFICATE_ENDING, "CN=receiver", "critical")]
    assert found_ends(view(agency__market=agency([None])), (seen,)) == expected


def test_a_grant_near_its_end_warns_unless_another_takes_its_place() -> None:
    """One that has ended warns nobody."""
    grant = {"id": "g", "agency": "market", "types": ["t"], "state": "active", "valid_until": SOON.isoformat()}
    assert found_ends(view(subscription__g=grant)) == [(AlertKind.GRANT_ENDING, "g", "critical")]
    after = {"id": "h", "agency": "market", "types": ["t"], "state": "approved", "replaces": "g"}
    assert found_ends(view(subscription__g=grant, subscription__h=after)) == []
    assert found_ends(view(subscription__g=grant | {"valid_until": (NOW - timedelta(days=1)).isoformat()})) == []


def test_a_policy_that_no_grant_has_any_more_fails_no_more() -> None:
    """The grant was replaced: nothing is written under the old policy again."""
    grant = {"id": "g", "agency": "market", "types": ["t"], "state": "active", "fields": {"levels": ["public"]}}
    held = view(subscription__g=grant)
    policy = held.subscriptions["g"].policy()
    open_one = Alert(AlertKind.POLICY_FAILED, "market", AT, "", labels={"policy": policy})
    assert rules.policies_failing([open_one], held) == [open_one]
    assert rules.policies_failing([open_one], view(subscription__g=grant | {"state": "terminated"})) == []


def test_a_silence_holds_for_what_it_names_until_its_end() -> None:
    """Of a kind, of a subject, or of both."""
    until = (NOW + timedelta(hours=1)).isoformat()
    silence = Silence("s", AlertKind.LINE_HELD, "market", until, "maintenance", "ops", AT)
    assert silencing([silence], AlertKind.LINE_HELD, "market", NOW) == silence
    assert silencing([silence], AlertKind.LINE_HELD, "health", NOW) is None
    assert silencing([silence], AlertKind.LINE_HELD, "market", NOW + timedelta(hours=2)) is None
    assert silencing([silence.ended("ops", NOW)], AlertKind.LINE_HELD, "market", NOW) is None
    assert Silence.from_json(json.loads(json.dumps(silence.to_json()))) == silence
    assert {RAISED, CLEARED} == {"cn.gov.sc.ops.alert.raised", "cn.gov.sc.ops.alert.cleared"}


def test_a_silence_about_nobody_is_told_from_one_about_somebody() -> None:
    """Disks, groups and ways have names of their own, which nobody lists."""
    assert is_about_somebody(AlertKind.LINE_HELD, "market", {"market"})
    assert is_about_somebody(None, "postgresql", set())
    assert is_about_somebody(AlertKind.DISK_FILLING, "/srv/data", set())
    assert not is_about_somebody(AlertKind.LINE_HELD, "markte", {"market"})
    assert not is_about_somebody(None, "markte", {"market"})


def test_what_is_about_an_agency_that_is_gone_ends_with_it_and_only_that() -> None:
    """Departments have keys too, and what concerns everybody concerns no agency."""
    known = view(
        agency__market=agency([None]), department__health={"id": "health", "name": "h", "source": "urn:h", "types": []}
    )
    about = [
        Alert(kind, subject, AT, "")
        for kind in (AlertKind.EVENT_PARKED, AlertKind.KEY_ENDING, AlertKind.LAG_BURNING, AlertKind.DEAD_LETTERS)
        for subject in ("market", "health", "gone", EVERYBODY)
    ]
    for subject in ("market", "gone", "receipts"):
        topic = subject if subject == "receipts" else f"parked.{subject}"
        about.append(Alert(AlertKind.TOPIC_UNWRITABLE, subject, AT, "", labels={"topic": topic}))
    found = {(one.kind, one.subject) for one in rules.without(known, about)}
    assert found == {
        (AlertKind.TOPIC_UNWRITABLE, "gone"),
        *((AlertKind.EVENT_PARKED, subject) for subject in ("health", "gone", EVERYBODY)),
        *((AlertKind.KEY_ENDING, subject) for subject in ("gone", EVERYBODY)),
        *((AlertKind.LAG_BURNING, subject) for subject in ("health", "gone")),
    }
