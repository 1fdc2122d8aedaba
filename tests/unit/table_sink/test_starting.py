"""Where an agency's tables go on, by their own cursor, those in Kafka, the log and what somebody has decided."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from consumers.pusher.note import Note
from consumers.pusher.placing import NONE, Bounds, answer_to
from consumers.table_sink.placing import BATCH, Start, start_of, taken_up
from services.delivery.cursors import reached
from services.delivery.gap import Gap
from services.runtime.kafka.port import Committed

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
ASTRAY = Note(SINCE, "the cursor is not on the log", astray=True).to_text()
LOG = Bounds(10, 20)
FAR = 10**12


@pytest.mark.parametrize(
    ("held", "pushed", "own", "start"),
    [
        (None, NONE, Committed(12), Start(12, 12)),
        (15, NONE, Committed(12), Start(15, 12)),
        (12, Committed(15), Committed(12), Start(15, 15)),
        (20, NONE, Committed(20), Start(20, 20)),
        (15, NONE, Committed(3), Start(15, 10)),
        (15, NONE, Committed(12, "a client's own"), Start(15, 12)),
    ],
)
def test_the_tables_go_on_at_the_greatest_cursor_and_receipts_at_the_one_in_kafka(
    held: int | None, pushed: Committed, own: Committed, start: Start
) -> None:
    """Receipts of what is in the tables already may be missing."""
    assert start_of(held, pushed, own, LOG) == start


def test_what_retention_took_below_the_cursor_is_told_with_both_offsets() -> None:
    """And the tables go on at the first event that is kept."""
    assert start_of(4, NONE, Committed(3), LOG) == Start(10, 10, gap=Gap(4, 10))


@pytest.mark.parametrize(
    ("held", "pushed", "own"), [(21, NONE, NONE), (12, Committed(FAR), NONE), (12, NONE, Committed(FAR))]
)
def test_a_cursor_beyond_the_end_waits_for_somebody_whoever_has_moved_it(
    held: int, pushed: Committed, own: Committed
) -> None:
    """What comes below it is not in the tables."""
    assert "hongyan feed go-on" in (start_of(held, pushed, own, LOG).astray or "")


def test_a_cursor_of_another_log_waits_for_somebody_though_this_one_is_as_long_by_now() -> None:
    """Without a note of which log it is of it is believed, unless it is further ahead of Kafka's than a batch."""
    grown = Bounds(0, 2000)
    assert "hongyan feed go-on" in (start_of(1000, NONE, NONE, grown, same=False).astray or "")
    assert start_of(BATCH + 1, NONE, NONE, grown, same=None).astray
    assert start_of(BATCH, NONE, NONE, grown, same=None) == Start(BATCH, 0)
    assert start_of(1000, NONE, NONE, grown) == Start(1000, 0), "Kafka forgot the cursor of this very log"
    answer = Committed(7, answer_to(SINCE, NONE))
    assert start_of(1000, NONE, answer, grown, same=False) == Start(7, 7, decided=True)


def test_what_waits_does_so_until_it_is_decided_though_the_log_grows() -> None:
    """And the cursor of the pusher's that was passed over does not count again once the log has come to it."""
    grown, pushed = Bounds(0, 100), Committed(60)
    assert start_of(50, pushed, Committed(0, ASTRAY), grown).astray
    decided = Committed(5, answer_to(SINCE, pushed))
    assert start_of(50, pushed, decided, grown) == Start(5, 5, decided=True)
    assert start_of(50, pushed, decided, LOG).astray, "that is no longer kept"
    own = taken_up(pushed, 5)
    assert start_of(7, pushed, own, grown) == Start(7, 5)
    assert reached(pushed, own) == 5
    assert reached(Committed(61), own) == 61, "another webhook has gone on since"


def test_an_answer_to_the_pusher_is_none_to_the_tables() -> None:
    """It has been taken up there, and the pusher went on."""
    assert start_of(12, Committed(17), Committed(14, answer_to(SINCE)), LOG) == Start(17, 17)


def test_a_database_that_was_restored_from_a_backup_is_written_again_from_where_it_ends() -> None:
    """Only the tables' own moves tell: where another channel went on meanwhile, the tables go on behind it."""
    by_tables = Committed(17, '{"by": "tables"}')
    assert start_of(12, NONE, by_tables, LOG) == Start(12, 12, restored=Gap(12, 17))
    assert start_of(4, NONE, by_tables, LOG) == Start(10, 10, gap=Gap(4, 10), restored=Gap(4, 17))
    assert start_of(17, Committed(19), by_tables, LOG) == Start(19, 19)
    assert start_of(12, NONE, Committed(17), LOG) == Start(17, 17)
    assert start_of(None, NONE, by_tables, LOG) == Start(17, 17), "there never was a table"
