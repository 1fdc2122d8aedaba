"""Where a line begins, by the cursors, the log and what somebody has decided."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from consumers.pusher.note import Note
from consumers.pusher.placing import NONE, Bounds, answer_to, answered, is_astray, place_of
from services.delivery.cursors import left_note
from services.delivery.gap import Gap
from services.runtime.kafka.port import Committed

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
HELD = Note(SINCE, "HTTP 503").to_text()
ASTRAY = Note(SINCE, "the cursor is not on the log", astray=True).to_text()
LOG = Bounds(10, 20)
FAR = 10**12


@pytest.mark.parametrize(
    ("pushed", "own", "bounds", "begins"),
    [
        (Committed(12, HELD), NONE, LOG, Committed(12, HELD)),
        (Committed(12, HELD), Committed(15), LOG, Committed(15)),
        (Committed(20), NONE, LOG, Committed(20)),
        (Committed(10), Committed(3), LOG, Committed(10)),
        (Committed(FAR), NONE, None, Committed(FAR)),
        (NONE, NONE, Bounds(0, 0), NONE),
    ],
)
def test_the_greater_cursor_counts_where_the_log_has_it(
    pushed: Committed, own: Committed, bounds: Bounds | None, begins: Committed
) -> None:
    """The pusher's note stays beside its own; of a log that nobody knows yet nothing is said."""
    place = place_of(pushed, own, bounds)
    assert (place.cursor, place.astray, place.gap) == (begins, None, None)


@pytest.mark.parametrize(("pushed", "own"), [(Committed(21), NONE), (Committed(12, HELD), Committed(FAR))])
def test_a_cursor_beyond_the_end_is_astray_whoever_has_moved_it(pushed: Committed, own: Committed) -> None:
    """It keeps the pusher's own, and says where the other stands, what the log has, and what to do."""
    place = place_of(pushed, own, LOG)
    assert place.cursor == pushed
    for said in (str(max(pushed.offset, own.offset)), "10", "20", "hongyan feed go-on"):
        assert said in (place.astray or "")


def test_what_is_astray_stays_so_until_its_note_is_answered_though_the_log_grows() -> None:
    """Else the events between the old end and the cursor would be passed over."""
    pushed, grown = Committed(21, ASTRAY), Bounds(0, 100)
    assert is_astray(pushed)
    assert place_of(pushed, NONE, grown).astray
    old = Committed(15, answer_to(datetime(2025, 1, 1, tzinfo=UTC)))
    assert not answered(pushed, old)
    assert place_of(pushed, old, grown).astray
    decided = Committed(15, answer_to(SINCE))
    assert answered(pushed, decided)
    assert not answered(Committed(21, HELD), decided)
    place = place_of(pushed, decided, grown)
    assert (place.cursor, place.astray, place.decided) == (Committed(15), None, True)
    assert place_of(pushed, decided, Bounds(16, 100)).astray
    assert place_of(pushed, decided, None).astray


def test_a_decision_counts_once_though_the_pusher_comes_to_the_same_cursor_again() -> None:
    """It was about what the pusher noted then; and what waits at the agency's tables waits at the pusher too."""
    pushed = Committed(15, left_note(SINCE))
    decided = Committed(12, answer_to(SINCE, pushed))
    assert place_of(pushed, decided, LOG).cursor == Committed(12)
    for later in (Committed(15), Committed(15, left_note(SINCE + timedelta(days=1)))):
        assert place_of(later, decided, LOG).cursor == later
    assert place_of(pushed, Committed(3, ASTRAY), LOG).astray


def test_what_the_log_let_go_of_is_a_gap_with_both_offsets() -> None:
    """The line goes on at what is kept, with its note, and people are told."""
    place = place_of(Committed(7, HELD), Committed(3), LOG)
    assert (place.cursor, place.gap, place.astray) == (Committed(10, HELD), Gap(7, 10), None)
    assert "7" in Gap(7, 10).told()
    assert "10" in Gap(7, 10).told()
