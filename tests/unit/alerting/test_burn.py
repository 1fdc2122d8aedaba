"""Burn rates over several windows: what burns, what does not, and what a restart and a wrong clock change."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.alerting.burn import HOUR_S, PAIRS, Buckets, Deliveries, Ledger, burning

START = datetime(2026, 1, 5, tzinfo=UTC)
SHARE = 0.999


def delivering(minutes: int, late_share: float, *, per_minute: int = 100, ledger: Ledger | None = None) -> Ledger:
    """Return a ledger of so many minutes up to the start, of which this share was late."""
    found = ledger or Ledger()
    for minute in range(-minutes, 1):
        late = round(per_minute * late_share)
        found.add(START + timedelta(minutes=minute), Deliveries(per_minute, late))
    return found


def test_one_late_in_thirty_for_an_hour_is_critical() -> None:
    """3 % late of 0.1 % allowed: 30 times too fast, over an hour and over five minutes."""
    found = burning(delivering(70, 0.03), 0, SHARE, 10, START)
    assert found is not None
    assert (found.pair, found.pair.severity) == (PAIRS[0], "critical")
    assert found.rate == pytest.approx(30, rel=0.05)


def test_a_spike_that_is_over_wakes_nobody() -> None:
    """The hour still sees it and its five minutes do not; what it cost of the month is left as a warning."""
    ledger = Ledger()
    ledger.add(START - timedelta(minutes=40), Deliveries(1000, 1000))
    delivering(30, 0.0, ledger=ledger)
    assert burning(ledger, 0, SHARE, 10, START, PAIRS[:1]) is None
    assert burning(delivering(30, 0.0), 0, SHARE, 10, START) is None
    found = burning(ledger, 0, SHARE, 10, START)
    assert found is not None
    assert found.pair.severity == "warning"


def test_a_slow_leak_is_a_warning_after_days() -> None:
    """0.2 % late for three days spends the budget twice as fast as it should."""
    ledger = Ledger()
    for step in range(-432, 1):
        ledger.add(START + timedelta(minutes=10 * step), Deliveries(1000, 2))
    found = burning(ledger, 0, SHARE, 10, START)
    assert found is not None
    assert (found.pair, found.pair.severity) == (PAIRS[2], "warning")


def test_a_few_late_ones_of_few_are_no_burn() -> None:
    """Nine of nine, where ten count."""
    ledger = Ledger()
    ledger.add(START, Deliveries(9, 9))
    assert burning(ledger, 0, SHARE, 10, START) is None
    ledger.add(START, Deliveries(1, 1))
    assert burning(ledger, 0, SHARE, 10, START) is not None


def test_who_gets_nothing_is_not_on_time() -> None:
    """Events that wait beyond the objective burn although nothing was delivered."""
    assert burning(Ledger(), 50, SHARE, 10, START) is not None
    assert burning(Ledger(), 0, SHARE, 10, START) is None


def test_totals_become_differences_and_a_new_process_counts_from_nothing() -> None:
    """Nothing is counted twice, and what a restarted monitor has counted is not lost."""
    ledger = Ledger()
    totals = [(100, 5), (110, 5), (3, 1), (10, 2)]
    added = [ledger.total(START, Deliveries(*total)) for total in totals]
    assert added == [Deliveries(0, 0), Deliveries(10, 0), Deliveries(3, 1), Deliveries(7, 1)]


def test_a_restart_loses_no_count() -> None:
    """What was counted in between by others is in the next difference."""
    ledger = delivering(60, 0.03)
    ledger.total(START, Deliveries(1000, 10))
    again = Ledger.from_json(json.loads(json.dumps(ledger.to_json())))
    assert again.within(START, HOUR_S) == ledger.within(START, HOUR_S)
    assert again.total(START, Deliveries(1100, 10)) == Deliveries(100, 0)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 5)), max_size=60), st.integers(0, 10_000))
def test_a_window_holds_what_came_in_it_and_nothing_else(came: list[tuple[int, int]], now: int) -> None:
    """In whatever order it came, however the clock jumped: to a slice, and what lies ahead of now is forgotten."""
    buckets = Buckets(60, 3600)
    for second, taken in came:
        buckets.add(float(second), Deliveries(taken, 0))
    buckets.add(float(now), Deliveries(0, 0))
    found = buckets.within(float(now), 600).taken
    at_most = sum(taken for second, taken in came if now // 60 - 10 < second // 60 <= now // 60)
    assert 0 <= found <= at_most
    assert all(now // 60 - 60 <= slot <= now // 60 for slot in buckets.counts)
    if all(one[0] <= two[0] for one, two in itertools.pairwise(came)) and (not came or came[-1][0] <= now):
        assert found == at_most
