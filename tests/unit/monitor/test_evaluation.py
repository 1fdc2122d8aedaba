"""Consumers told apart by windows: ok, catching up, slow, stalled, stopped, rewound."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.monitor.evaluation import LEAST_S, WINDOW_S, Sample, Track, delay_s, state_of, worst
from services.delivery.lag import STATES, TROUBLED, State


def window(*looks: tuple[int, int]) -> list[Sample]:
    """Return looks a second apart, each of where the group stood and of the end."""
    return [Sample(float(n), committed, end, end - committed) for n, (committed, end) in enumerate(looks)]


def state(samples: Sequence[Sample], members: int | None = 1) -> State:
    """Return the state of a group with so many members."""
    return state_of(samples, lambda: members)


CASES: dict[str, tuple[list[tuple[int, int]], State]] = {
    "nothing to take": ([(5, 5)] * 6, "ok"),
    "keeps up, never quite at the end": ([(n * 10, n * 10 + 4) for n in range(6)], "ok"),
    "was behind and is at the end": ([(0, 9), (0, 9), (0, 9), (0, 9), (9, 9)], "ok"),
    "one look at a backlog": ([(0, 9)], "unknown"),
    "behind and gaining": ([(0, 100), (20, 101), (40, 102), (60, 103), (80, 104)], "catching-up"),
    "moves, but less than comes": ([(0, 50), (10, 90), (20, 130), (30, 170), (40, 210)], "slow"),
    "moves as fast as it comes, far behind": ([(n * 10, 500 + n * 10) for n in range(6)], "slow"),
    "stands before a backlog": ([(3, 9)] * 5, "stalled"),
    "stands while more comes": ([(3, 9), (3, 12), (3, 15), (3, 20)], "stalled"),
    "stands for a moment only": ([(5, 5), (5, 9), (5, 9)], "catching-up"),
    "was put back": ([(90, 100), (95, 100), (20, 100), (40, 100)], "rewound"),
    "was put back, and has come as far again": ([(90, 100), (20, 100), (90, 101), (101, 101)], "ok"),
}


@pytest.mark.parametrize("name", CASES)
def test_each_kind_of_trouble_has_its_state(name: str) -> None:
    """By the way offsets and lags move, whatever their size."""
    looks, expected = CASES[name]
    assert state(window(*looks)) == expected


def test_who_stands_still_without_members_has_stopped() -> None:
    """With members it has stalled; where that can't be told, nobody is said to be gone."""
    still = window(*[(3, 9)] * 5)
    assert [state(still, members) for members in (0, 1, None)] == ["stopped", "stalled", "stalled"]


def test_the_members_are_asked_for_only_when_it_matters() -> None:
    """A group that moves costs no question."""
    asked: list[int] = []

    def members() -> int:
        asked.append(1)
        return 1

    state_of(window((0, 9), (5, 14), (9, 18), (14, 23)), members)
    assert asked == []
    state_of(window(*[(3, 9)] * 5), members)
    assert asked == [1]


def test_the_delay_is_since_when_the_end_is_out_of_reach() -> None:
    """What it has reached now was the end four seconds ago; whoever is at the end has none."""
    assert delay_s(window((0, 10), (2, 20), (4, 30), (6, 40), (10, 50))) == 4.0
    assert delay_s(window((0, 10), (10, 10))) == 0.0


def test_a_log_made_anew_begins_the_window_anew() -> None:
    """What was seen of the old one would look like going back."""
    track = Track()
    for at, end in enumerate((100, 100, 100, 3)):
        track.add(Sample(float(at), end, end, 0))
    assert [sample.end for sample in track.samples] == [3]


def test_a_window_forgets() -> None:
    """A rewinding is told for as long as the window lasts, and what follows by what follows."""
    track = Track()
    track.add(Sample(0.0, 50, 100, 50))
    for at in range(1, int(WINDOW_S) + 2):
        track.add(Sample(float(at), 10, 100, 90))
        assert state(track.samples) == ("rewound" if at <= WINDOW_S else "stalled")


def test_the_worst_partition_speaks_for_all() -> None:
    """Trouble goes before work under way."""
    assert worst(["ok", "stalled", "slow", "ok"]) == "stalled"
    assert worst(["ok", "catching-up"]) == "catching-up"
    assert worst([]) == "ok"


steps = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=30)


def walk(moves: Sequence[tuple[int, int]]) -> list[Sample]:
    """Return looks at a consumer that never goes back and never passes the end."""
    looks, committed, end = [], 0, 0
    for produced, consumed in moves:
        end += produced
        committed = min(end, committed + consumed)
        looks.append((committed, end))
    return window(*looks)


@given(steps)
def test_whoever_only_goes_forward_is_never_rewound(moves: list[tuple[int, int]]) -> None:
    """Whatever comes and goes."""
    assert state(walk(moves)) != "rewound"


@given(steps)
def test_whoever_is_at_the_end_is_well(moves: list[tuple[int, int]]) -> None:
    """However it got there, and however long it stood."""
    samples = walk(moves)
    at = samples[-1].at + 1
    assert state([*samples, Sample(at, samples[-1].end, samples[-1].end, 0)]) == "ok"


@given(steps)
def test_whoever_moved_within_the_least_stretch_is_neither_stalled_nor_stopped(moves: list[tuple[int, int]]) -> None:
    """And whoever stands for a minute before a backlog is one of both, in whatever rhythm it moved before."""
    samples = walk(moves)
    newest = [sample for sample in samples if sample.at >= samples[-1].at - LEAST_S]
    if newest[0].committed != newest[-1].committed:
        assert state(samples) not in {"stalled", "stopped"}
    ever = [*samples, *(Sample(samples[-1].at + n, samples[-1].committed, samples[-1].end + 1, 1) for n in range(60))]
    assert state(ever) == "stalled"
    assert state(ever, 0) == "stopped"


def test_who_takes_one_every_four_seconds_is_slow_and_stands_when_it_misses_two() -> None:
    """By its own rhythm; one that moved at every look stands after two."""
    looks = [(1 + n // 4, 20 + 2 * n) for n in range(24)]
    assert {state(window(*looks[:n])) for n in range(18, 25)} == {"slow"}
    stood = [*looks, *((6, 70 + n) for n in range(4))]
    assert state(window(*stood)) == "stalled"
    quick = [*((n * 10, 200 + n * 20) for n in range(9)), *((80, 380 + n) for n in range(2))]
    assert (state(window(*quick[:-1])), state(window(*quick))) == ("slow", "stalled")


def test_one_good_look_among_worse_ones_is_no_gain() -> None:
    """A batch had just been taken when it was looked."""
    lags = (10, 24, 40, 38, 55, 70, 66, 81)
    samples = [Sample(n / 2, n * 5, n * 5 + lag, lag) for n, lag in enumerate(lags)]
    assert [state(samples[:n]) for n in range(5, 9)] == ["slow"] * 4


@given(steps, st.integers(1, 10**12), st.floats(0, 1e9))
def test_neither_the_offsets_nor_the_clock_matter_but_how_they_move(
    moves: list[tuple[int, int]], offset: int, seconds: float
) -> None:
    """A log far along, or a machine long up, is judged alike."""
    samples = walk(moves)
    shifted = [Sample(s.at + round(seconds), s.committed + offset, s.end + offset, s.lag) for s in samples]
    assert state(shifted) == state(samples)


@given(steps)
def test_trouble_is_told_only_with_a_lag(moves: list[tuple[int, int]]) -> None:
    """And every state is one that is documented."""
    samples = walk(moves)
    assert state(samples) in STATES
    assert samples[-1].lag or state(samples) not in TROUBLED
