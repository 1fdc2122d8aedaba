"""How much of a backfill a router takes on: the rate is kept, and live work comes first."""

from __future__ import annotations

from consumers.router.pace import BEHIND_S, BESIDE_EVERY_S, QUIET_S, Pace


def test_the_rate_is_kept_over_time() -> None:
    """With nothing live, in whole pieces, and no more of them saved up than two."""
    pace, taken, now = Pace(100, 10), 0, 1000.0
    for _ in range(1000):
        now += 0.01
        allowed = pace.allows(now, beside=False, behind=False)
        assert allowed in {0, 10}
        if allowed:
            pace.took(allowed, 0.001, now)
            taken += allowed
    assert 990 <= taken <= 1020


def test_beside_live_events_it_takes_as_many_as_a_millisecond_holds_and_seldom() -> None:
    """However many tokens there are; at least one, or a backfill would stand still."""
    pace, now = Pace(1000, 50), 1000.0
    for cost, most in ((0.0001, 10), (0.1, 1)):
        for _ in range(200):
            now += 1.0
            pace.took(1, cost, now)
            allowed = pace.allows(now + 2 * BESIDE_EVERY_S, beside=True, behind=False)
        assert 1 <= allowed <= most
    pace.took(1, 0.1, now)
    assert pace.allows(now + BESIDE_EVERY_S / 2, beside=True, behind=False) == 0
    assert pace.allows(now + 2 * BESIDE_EVERY_S, beside=True, behind=False) == 1


def test_a_transaction_of_its_own_waits_until_it_is_quiet() -> None:
    """What comes live meanwhile would wait for it."""
    pace = Pace(1000, 10)
    assert pace.allows(100.0, beside=True, behind=False)
    assert pace.allows(100.0 + QUIET_S / 2, beside=False, behind=False) == 0
    assert 0 < pace.due_in(100.0 + QUIET_S / 2) <= QUIET_S / 2
    assert pace.allows(100.0 + QUIET_S, beside=False, behind=False) == 10


def test_a_router_that_is_behind_does_next_to_nothing_of_it() -> None:
    """But something once a second: a backlog may last for days."""
    pace = Pace(1000, 10)
    pace.took(10, 0.001, 100.0)
    assert pace.allows(100.0 + BEHIND_S / 2, beside=True, behind=True) == 0
    assert pace.allows(100.0 + BEHIND_S, beside=True, behind=True) >= 1
