"""The probe's states: starting, ok, late, lost, refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from consumers.monitor.probe import Patience, Probe

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Run:
    """A probe on a clock of its own: a late event after 2 s, a lost one after 60."""

    def __init__(self) -> None:
        self.probe = Probe(Patience(5.0, 2.0, 60.0), NOON)
        self.seconds = 0.0

    def at(self, seconds: float) -> float:
        """Put the clock on; return seconds since the epoch."""
        self.seconds = seconds
        return NOON.timestamp() + seconds

    def came(self, name: str, sent: float, took: float, recorded: float | None = None) -> None:
        """Send one, have it taken, and have it come."""
        self.probe.sent(name, self.at(sent))
        self.probe.answered(name, self.at(sent + 0.01))
        self.probe.received(name, self.at(sent + took), None if recorded is None else self.at(recorded))
        self.at(sent + took)

    def taken(self, name: str, sent: float) -> None:
        """Send one and have it taken."""
        self.probe.sent(name, self.at(sent))
        self.probe.answered(name, self.at(sent + 0.01))

    @property
    def state(self) -> str:
        """Return the state of the moment."""
        return self.probe.lag(NOON + timedelta(seconds=self.seconds)).state


def test_a_way_that_is_whole_is_ok_with_its_latency() -> None:
    """From the call to the signed delivery, the gateway's part told apart; since when it is so."""
    run = Run()
    assert run.state == "starting"
    for number in range(4):
        run.came(f"p{number}", 5.0 * number, 0.03 + number / 100)
    lag = run.probe.lag(NOON + timedelta(seconds=16))
    assert (lag.state, lag.sent, lag.received, lag.lost, lag.refused) == ("ok", 4, 4, 0, 0)
    assert lag.last_ms == pytest.approx(60.0, abs=0.1)
    assert lag.gateway_ms == pytest.approx(10.0, abs=0.1)
    assert lag.p50_ms == pytest.approx(40.0, abs=0.1)


def test_one_that_is_out_for_too_long_is_late_at_once_and_says_where() -> None:
    """Not only when it comes at last; and the next quick one ends it."""
    run = Run()
    run.came("a", 0.0, 0.03)
    run.taken("b", 5.0)
    run.at(6.9)
    assert run.state == "ok"
    run.at(7.2)
    assert run.state == "late"
    assert "尚未送达" in run.probe.lag(NOON + timedelta(seconds=7.2)).detail
    run.probe.received("b", run.at(9.0), None)
    assert run.state == "late"
    run.came("c", 10.0, 0.03)
    assert run.state == "ok"


def test_one_that_never_comes_is_lost_though_others_do() -> None:
    """Nothing may be: it is told until it comes after all, or is too long ago."""
    run = Run()
    run.taken("gone", 0.0)
    run.came("next", 70.0, 0.03)
    lag = run.probe.lag(NOON + timedelta(seconds=71))
    assert (lag.state, lag.lost, lag.received) == ("lost", 1, 1)
    run.probe.received("gone", run.at(80.0), None)
    assert run.state == "ok"


def test_what_the_gateway_does_not_take_is_refused_with_its_words() -> None:
    """Until it takes one again; an answer that got lost was none."""
    run = Run()
    run.came("a", 0.0, 0.03)
    run.probe.sent("b", run.at(5.0))
    run.probe.refused("b", "HTTP 503: Kafka")
    lag = run.probe.lag(NOON + timedelta(seconds=6))
    assert (lag.state, lag.detail, lag.refused) == ("refused", "HTTP 503: Kafka", 1)
    run.probe.received("b", run.at(6.5), None)
    assert run.state == "ok"


def test_a_gateway_that_does_not_answer_is_named() -> None:
    """Sent and neither taken nor refused."""
    run = Run()
    run.probe.sent("a", run.at(0.0))
    run.at(3.0)
    assert run.state == "late"
    assert "网关没有应答" in run.probe.lag(NOON + timedelta(seconds=3)).detail


@pytest.mark.parametrize(("recorded", "ahead"), [(5.02, 0.0), (3605.0, 3599.97), (-3595.0, -3600.0)])
def test_the_gateways_clock_is_compared(recorded: float, ahead: float) -> None:
    """It stamps between the call and the delivery, or its clock is another."""
    run = Run()
    run.came("a", 5.0, 0.03, recorded)
    assert run.probe.lag(NOON + timedelta(seconds=6)).clock_ahead_s == pytest.approx(ahead, abs=0.01)


def test_what_was_not_sent_from_here_is_nobodys() -> None:
    """A predecessor's, or one that came twice."""
    run = Run()
    run.probe.received("foreign", run.at(1.0), None)
    assert run.state == "starting"
    run.came("a", 2.0, 0.03)
    run.probe.received("a", run.at(9.0), None)
    assert run.probe.lag(NOON + timedelta(seconds=9)).last_ms == pytest.approx(30.0, abs=0.1)
