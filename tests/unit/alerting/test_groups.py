"""When people are told of a trouble, over its whole life: waits, repetitions, flapping, failures, wrong clocks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.alerting.groups import (
    Group,
    Manner,
    Reason,
    Told,
    due,
    failed,
    is_over,
    rebased,
    sent,
    take,
    telling,
)
from services.alerting.kept import Kept, group_bytes
from services.alerting.policy import Policy, policy_of, retry_after_s
from services.runtime.alerts import Alert, AlertKind, Severity
from services.runtime.settings import AlertingSettings

START = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)
POLICY = Policy(wait_s=30, settle_s=60, news_s=300, repeat_s=3600, repeat_cap_s=4 * 3600)
WAY = "mail:duty@example.org"


def at(seconds: float) -> datetime:
    """Return a moment so many seconds after the start."""
    return START + timedelta(seconds=seconds)


def alert(
    label: str = "1", *, kind: AlertKind = AlertKind.LINE_HELD, state: str = "open", severity: Severity | None = None
) -> Alert:
    """Return an alert of one agency."""
    made = Alert(kind, "market", START.isoformat(), f"detail {label}", "open", {"n": label}, severity)
    return made if state == "open" else replace(made, state="closed", detail="over")


@dataclass
class Life:
    """One group and one way, moved through time by a test; ``heard`` is what the way has told, and when."""

    policy: Policy = POLICY
    manner: Manner = "repeating"
    group: Group | None = None
    now: float = 0.0
    offset: int = 0
    heard: list[tuple[Reason, float]] = field(default_factory=list)
    broken: bool = False
    silenced: bool = False

    def take(self, one: Alert) -> None:
        """Take an alert in."""
        self.offset += 1
        self.group = take(self.group, one, self.offset, at(self.now), self.policy.settle_s)

    def step(self, seconds: float, every: float = 10.0) -> Life:
        """Let time pass, looking every so often."""
        until = self.now + seconds
        while self.now < until:
            self.now += every
            self.look()
        return self

    def look(self) -> None:
        """Do what the alerter does each round."""
        if self.group is None:
            return
        now = at(self.now)
        self.group = rebased(self.group, now)
        told = self.group.told.get(WAY, Told())
        reason = due(self.group, told, self.policy, now, self.manner, silenced=self.silenced)
        if reason is None:
            return
        if self.broken:
            self.group = failed(self.group, WAY, "refused", now)
        else:
            self.group = sent(self.group, WAY, telling(self.group, WAY, reason), now)
            self.heard.append((reason, self.now))

    def restart(self) -> None:
        """Lose the process, and read back what it kept."""
        assert self.group is not None
        kept = Kept()
        kept.take(f"group/{self.group.name}", group_bytes(self.group))
        for one in self.group.alerts.values() if self.group.closed_at is None else ():
            kept.take(f"alert/{one.key}", one.to_bytes())
        self.group = kept.assembled()[self.group.name]


def reasons(life: Life) -> list[Reason]:
    """Return what was told, in order."""
    return [reason for reason, _ in life.heard]


def test_a_trouble_is_told_repeated_ever_less_often_and_told_to_be_over() -> None:
    """After 1, 2, 4 and again 4 hours, the cap."""
    life = Life()
    life.take(alert())
    life.step(12 * 3600)
    hours = [round(seconds / 3600) for _, seconds in life.heard]
    assert hours == [0, 1, 3, 7, 11]
    life.take(alert(state="closed"))
    life.step(3600)
    assert reasons(life) == ["raised", "repeated", "repeated", "repeated", "repeated", "resolved"]


def test_a_warning_that_ends_at_once_is_told_to_nobody() -> None:
    """Neither its beginning nor its end."""
    life = Life()
    life.take(alert())
    life.step(20)
    life.take(alert(state="closed"))
    assert life.step(7200).heard == []


def test_what_is_critical_is_told_without_waiting() -> None:
    """At the first look."""
    life = Life()
    life.take(alert(kind=AlertKind.SERVER_AWAY))
    assert life.step(10).heard == [("raised", 10.0)]


def test_a_thousand_alerts_of_one_agency_are_one_message_and_more_of_them_a_later_one() -> None:
    """Grown means told again, not before five minutes have passed."""
    life = Life()
    for number in range(1000):
        life.take(alert(str(number), kind=AlertKind.EVENT_PARKED))
    life.step(60)
    life.take(alert("more", kind=AlertKind.EVENT_PARKED))
    life.step(600)
    assert reasons(life) == ["raised", "grew"]
    assert life.heard[1][1] >= 300


def test_what_becomes_critical_is_told_at_once() -> None:
    """A warning that was told is no reason to wait."""
    life = Life()
    life.take(alert(kind=AlertKind.LAG_BURNING, severity="warning"))
    life.step(60)
    life.take(alert(kind=AlertKind.LAG_BURNING, severity="critical"))
    life.step(10)
    assert reasons(life) == ["raised", "grew"]


def test_one_that_flaps_is_told_once_and_its_end_once() -> None:
    """Up and down every 20 seconds for half an hour: one beginning, one end."""
    life = Life()
    life.take(alert())
    life.step(60)
    for _ in range(45):
        life.take(alert(state="closed"))
        life.step(20)
        life.take(alert())
        life.step(20)
    life.take(alert(state="closed"))
    life.step(3600)
    assert reasons(life) == ["raised", "resolved"]


def test_one_that_comes_back_after_its_end_must_stand_longer() -> None:
    """Every two minutes anew for two hours: a beginning and an end each hour, not sixty messages."""
    life = Life()
    for _ in range(30):
        life.take(alert(kind=AlertKind.SERVER_AWAY))
        life.step(120)
        life.take(alert(kind=AlertKind.SERVER_AWAY, state="closed"))
        life.step(120)
    assert len(life.heard) <= 4
    life.take(alert(kind=AlertKind.SERVER_AWAY))
    life.step(600)
    assert reasons(life)[-1] == "raised"


def test_a_message_that_fails_is_tried_again_until_it_goes_out() -> None:
    """Ever less often, and never given up."""
    life = Life(broken=True)
    life.take(alert())
    life.step(24 * 3600, every=60)
    assert life.heard == []
    assert life.group is not None
    assert life.group.told[WAY].failures > 100
    life.broken = False
    life.step(600)
    assert reasons(life) == ["raised"]
    assert life.group.told[WAY].failures == 0


def test_whoever_could_not_be_reached_before_the_end_is_told_that_it_was() -> None:
    """A mail server that was away hides nothing."""
    life = Life(broken=True)
    life.take(alert())
    life.step(600)
    life.take(alert(state="closed"))
    life.step(300)
    life.broken = False
    assert reasons(life.step(1200)) == ["resolved"]


def test_the_agency_of_a_held_line_is_told_once_it_flows_again() -> None:
    """On the very feed that was held: nothing is added to its backlog meanwhile."""
    life = Life(manner="afterwards")
    life.take(alert())
    life.step(7200)
    assert life.heard == []
    life.take(alert(state="closed"))
    assert reasons(life.step(1800)) == ["resolved"]


def test_an_agency_is_told_once_of_what_lasts() -> None:
    """No repetition on a feed."""
    life = Life(manner="once")
    life.take(alert(kind=AlertKind.GRANT_ENDING))
    life.step(5 * 24 * 3600, every=300)
    life.take(alert(kind=AlertKind.GRANT_ENDING, state="closed"))
    assert reasons(life.step(1800)) == ["raised", "resolved"]


def test_whoever_is_owed_only_the_end_hears_nothing_else() -> None:
    """A route for what is critical, once it is a warning."""
    life = Life()
    life.take(alert(kind=AlertKind.KEY_ENDING, severity="critical"))
    life.step(60)
    life.manner = "ending"
    life.step(24 * 3600, every=300)
    life.take(alert(kind=AlertKind.KEY_ENDING, state="closed"))
    assert reasons(life.step(600)) == ["raised", "resolved"]


def test_in_quiet_hours_warnings_wait_and_what_is_critical_does_not() -> None:
    """22:00 to 07:00 in Shanghai; the start of these tests is 10:00 there."""
    night = replace(POLICY, quiet=(time(22), time(7)))
    warning, critical = Life(night, now=13 * 3600.0), Life(night, now=13 * 3600.0)
    warning.take(alert())
    critical.take(alert(kind=AlertKind.SERVER_AWAY))
    assert warning.step(7 * 3600).heard == []
    assert reasons(warning.step(1.5 * 3600)) == ["raised"]
    assert reasons(critical.step(60)) == ["raised"]
    assert policy_of(AlertingSettings(quiet_hours="22:00-07:00")).quiet == (time(22), time(7))


def test_a_silence_stops_messages_but_not_the_end_of_what_was_told() -> None:
    """Silenced after the first message."""
    life = Life()
    life.take(alert())
    life.step(60)
    life.silenced = True
    life.step(24 * 3600, every=60)
    life.take(alert(state="closed"))
    assert reasons(life.step(600)) == ["raised", "resolved"]


@pytest.mark.parametrize("jump", [-30 * 24 * 3600.0, 30 * 24 * 3600.0])
def test_a_clock_that_jumps_repeats_once_too_often_at_most_and_silences_nobody(jump: float) -> None:
    """There and back again."""
    life = Life()
    life.take(alert(kind=AlertKind.SERVER_AWAY))
    life.step(600)
    life.now += jump
    life.step(600)
    life.now -= jump
    life.step(600)
    assert reasons(life) in (["raised"], ["raised", "repeated"])
    before = len(life.heard)
    life.step(3 * 3600)
    assert len(life.heard) > before
    life.take(alert(kind=AlertKind.SERVER_AWAY, state="closed"))
    assert reasons(life.step(600))[-1] == "resolved"


def test_a_group_is_forgotten_when_everybody_knows_and_it_is_calm() -> None:
    """Not before."""
    life = Life()
    life.take(alert())
    life.step(60)
    life.take(alert(state="closed"))
    assert life.group is not None
    assert not is_over(life.group, [WAY], POLICY, at(life.now + 7200))
    life.step(120)
    assert not is_over(life.group, [WAY], POLICY, at(life.now))
    assert is_over(life.group, [WAY], POLICY, at(life.now + 7200))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["open", "closed", "again", "restart", "break", "mend", "look"]),
        st.sampled_from(["1", "2", "3"]),
        st.sampled_from([0.0, 10.0, 45.0, 90.0, 400.0, 4000.0]),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_whatever_happens_everybody_is_told_of_what_stands_and_of_the_end_exactly_once(
    steps: list[tuple[str, str, float]],
) -> None:
    """Alerts interleaved and repeated, restarts, a way that breaks: a beginning and an end alternate, none is doubled
    and at the end, the way being mended and time passing, what stands is told and what is over is told as over.
    """
    life, last = Life(), alert()
    stands: set[str] = set()
    for action, label, seconds in steps:
        if action in {"open", "closed"}:
            last = alert(label, state=action)
            life.take(last)
            stands = stands | {label} if action == "open" else stands - {label}
        elif action == "again" and life.group is not None:
            assert take(life.group, last, life.offset, at(life.now), POLICY.settle_s) == life.group
        elif action == "restart" and life.group is not None:
            life.restart()
        elif action in {"break", "mend"}:
            life.broken = action == "break"
        if seconds:
            life.step(seconds, every=max(10.0, seconds / 20))
    life.broken = False
    life.step(3 * 3600, every=60)
    open_told = False
    for reason in reasons(life):
        if reason == "resolved":
            # Of what was never told while it stood, the end alone is told: only where a way was broken.
            assert open_told or any(action == "break" for action, _, _ in steps)
        else:
            assert open_told is (reason != "raised")
        open_told = reason != "resolved"
    assert open_told is bool(stands)


def test_retries_wait_longer_up_to_a_cap() -> None:
    """5 s to 5 minutes."""
    assert [retry_after_s(n) for n in (1, 2, 3, 7, 50)] == [5, 10, 20, 300, 300]
